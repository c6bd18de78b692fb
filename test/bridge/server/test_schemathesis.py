"""Schemathesis reads the OpenAPI document and makes up requests, good and bad: none may be a 5xx."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from running_bridge import TOY, UNTRAINED, start
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

# Not response_schema_conformance: it does not read the document's prefixItems.
CHECKS = [not_a_server_error, status_code_conformance]
# Always the same requests, and a failing one is shown as it is: making it smaller can take minutes.
SETTINGS = hypothesis.settings(
    max_examples=25, deadline=None, database=None, derandomize=True, phases=[hypothesis.Phase.generate]
)
OPERATIONS = [
    ("POST", "/pc"),
    ("POST", "/metric_depth"),
    ("POST", "/rel_depth"),
    ("GET", "/health"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/models"),
    ("GET", "/metrics"),
    ("GET", "/session"),
    ("POST", "/session"),
    ("DELETE", "/session"),
    ("POST", "/tickets"),
]
# What has neither parameters nor a body cannot be asked wrongly.
CASES = [
    *((method, path, GenerationMode.POSITIVE) for method, path in OPERATIONS),
    *(
        (method, path, GenerationMode.NEGATIVE)
        for method, path in OPERATIONS
        if method == "POST" and path != "/session"
    ),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a bridge that fetches no URL: made-up ones would be looked up."""
    log = tmp_path_factory.mktemp("schemathesis") / "log"
    running = start(log, *TOY, *UNTRAINED, "--no-image-url", "--max-input-size=112")
    yield schemathesis.openapi.from_url(f"{running.url}/openapi.json")
    assert len(running.workers()) == 1
    assert running.end() == 0


def choose_toy(fields: Any) -> None:
    """Ask for the toy where a real network was chosen: those take seconds without a GPU."""
    if isinstance(fields, dict) and fields.get("encoder") in ("vits", "vitb", "vitl"):
        fields["encoder"] = "toy"


def wait_patiently(headers: Any) -> None:
    """Give a deadline of milliseconds the time that an answer takes: a 504 is right when it passes."""
    for name in headers or {}:
        if name.lower() == "x-deadline-ms" and str(headers[name]).isdecimal() and int(headers[name]) > 0:
            headers[name] = "20000"


def test_every_operation_is_tried(api: Any) -> None:
    found = [result.ok() for result in api.get_all_operations()]
    assert sorted((operation.method.upper(), operation.path) for operation in found) == sorted(OPERATIONS)


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_status_is_documented_and_none_is_a_server_error(
    api: Any, method: str, path: str, mode: GenerationMode
) -> None:
    @SETTINGS
    @hypothesis.given(case=api[path][method].as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        choose_toy(case.query)
        choose_toy(case.body)
        wait_patiently(case.headers)
        case.call_and_validate(checks=CHECKS, timeout=20)

    ask()
