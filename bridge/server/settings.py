"""Settings of the bridge: the table of all settings, with their defaults. Values come from `settings_sources`."""

from __future__ import annotations

import secrets
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bridge.server.image_url import ImageUrlSettings
from depth_anything_ros.backends.protocol import BACKENDS, PRECISIONS
from depth_anything_ros.settings import CacheSettings, ImageLimits, InputLimits, ModelSettings, own_input_size

PREFIX = "DEPTH_BRIDGE_"
MIB = 2**20
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
CHOICES = {"backend": BACKENDS, "precision": PRECISIONS}

# Several values: repeated on the command line, separated by commas everywhere else.
Names = Annotated[tuple[str, ...], NoDecode]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class BridgeSettings(BaseSettings):
    """Everything that can be set. `depth_anything_bridge --help` prints this."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        cli_prog_name="depth_anything_bridge",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags=True,
        use_attribute_docstrings=True,
    )

    config: Path | None = None
    """YAML file with any of these settings."""
    host: str | None = None
    """Address to listen on; by default 0.0.0.0 with a key, 127.0.0.1 without."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which is logged."""
    root_path: Annotated[str, Field(pattern=r"^(/[\w.~-]+)*$")] = ""
    """Path under which a proxy shows this server, such as /depth."""
    cors_allow_origins: Names = ()
    """Origins whose web pages may call this server, such as https://example.com; * allows all."""
    allow_hosts: Names = ()
    """Names, such as robot.lan, that clients may call this server by where it needs no key and listens on this machine
    alone; addresses and names without a dot always count, * allows all."""
    workers: Count = 1
    """Worker processes; GPUs are dealt out to them in turn."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important lines that are logged."""

    api_key: SecretStr | None = None
    """One key that clients may use. Others see it in the process list: prefer the environment or a file."""
    api_keys_file: Path | None = None
    """File of `name sha256` lines, read again on SIGHUP; see `depth_anything_bridge make-key`."""
    rate_limit_per_s: Annotated[float, Field(gt=0)] | None = None
    """Requests for depth a second for each key, of all workers together; no limit by default."""
    rate_burst: Count = 20
    """Requests a key may make at once before its rate counts."""

    default_encoder: str = ModelSettings.encoder
    """Encoder of requests that name none."""
    default_dataset: str = ModelSettings.dataset
    """Dataset of requests that name none."""
    default_input_size: int | None = ModelSettings.input_size
    """model_input_size of requests that name none; the network's own by default: 518, or 504 for Depth Anything 3."""
    checkpoint: str | None = ModelSettings.checkpoint
    """Weights of the default encoder and dataset; `untrained` gives every model random weights."""
    download: bool = False
    """Fetch missing official weights from the Hugging Face Hub within a request."""
    accept_license: bool = ModelSettings.accept_license
    """Agree to the non-commercial licence of the Base and Large weights."""
    device: str = ModelSettings.device
    """`auto` spreads requests over all GPUs; or `cpu`, `cuda:N`."""
    precision: str = ModelSettings.precision
    """`auto`, `fp32`, `bf16` or `fp16`."""
    backend: str = ModelSettings.backend
    """`auto`, `torch`, `openvino` or `onnxruntime`."""
    compile: bool = ModelSettings.compile
    """Let torch.compile rewrite the network: minutes for each image size, and a C++ compiler."""
    preload: Names = ()
    """Models to load at start, such as vits:hypersim:518; until then readyz says no."""
    max_models: Count = CacheSettings.max_models
    """Models kept in memory, for each device of a worker."""
    max_model_bytes: Count | None = CacheSettings.max_bytes
    """Memory that the weights of models not in use may keep, for each worker; no limit by default."""

    max_body_bytes: Count = 32 * MIB
    """Largest body of a request."""
    max_buffered_bytes: Count = 1024 * MIB
    """Bodies held at once, for each worker; beyond it requests are turned away."""
    max_answer_bytes: Count = 1024 * MIB
    """Answers held at once until their clients have taken them, for each worker; beyond it requests wait."""
    decode_timeout_s: Seconds = 10.0
    """Longest time to decode an image; its header has passed the limits by then."""
    max_images: Count = 16
    """Images of one request."""
    max_json_depth: Count = 100
    """Levels of nesting in a JSON body."""
    max_pixels: Count = ImageLimits.max_pixels
    """Pixels of an image."""
    max_side: Count = ImageLimits.max_side
    """Longest side of an image in pixels."""
    max_aspect_ratio: Annotated[float, Field(ge=1)] = ImageLimits.max_aspect_ratio
    """Long side of an image over its short side."""
    max_tokens: Count = InputLimits.max_tokens
    """Patches of 14x14 pixels that the network looks at."""
    min_input_size: Annotated[int, Field(ge=14)] = 56
    """Smallest model_input_size."""
    max_input_size: Annotated[int, Field(ge=14)] = 1036
    """Largest model_input_size."""
    max_max_depth: Annotated[float, Field(gt=0)] = 1000.0
    """Largest max_depth in metres."""
    max_waiting: Annotated[int, Field(ge=0)] = 64
    """Requests that wait for a device, for each worker; more are turned away."""
    queue_timeout_s: Seconds = 30.0
    """Longest wait for a device."""
    request_timeout_s: Seconds = 60.0
    """Longest time for a request, from its headers until its answer is made."""
    drain_timeout_s: Seconds = 25.0
    """Time from SIGTERM to the end; what is not answered by then is given up. Docker kills after 10, Kubernetes 30."""
    keep_alive_s: Seconds = 75.0
    """Time for which an idle connection is kept; more than a proxy in front keeps its own (nginx: 60)."""
    header_timeout_s: Seconds = 10.0
    """Time in which the headers of a request have to arrive."""
    body_timeout_s: Seconds = 30.0
    """Time in which the body of a request has to arrive, and half of what is left of its answer has to be taken."""

    ros: bool = False
    """Show the cameras of the depth nodes in this ROS domain at /cameras; needs rclpy, and one worker."""
    ros_node: Names = ()
    """Depth nodes to show, such as /front/depth_anything; all by default."""
    ros_args: Annotated[tuple[str, ...], NoDecode] = ()
    """Arguments for ROS: on the command line everything after --ros-args, such as -r __ns:=/robot."""
    max_streams: Count = 128
    """Streams of cameras, and requests that wait for a frame, at once."""
    max_streams_per_key: Count = 32
    """The same for each key; without keys all clients are one."""
    max_stream_bytes_per_s: Count | None = None
    """Bytes of frames a second for each key; a stream beyond it skips frames; no limit by default."""
    session_lifetime_s: Seconds = 12 * 3600.0
    """Time for which a browser stays signed in."""
    session_secret: SecretStr | None = None
    """What sessions are signed with, the same on all servers that share them; drawn at each start by default."""

    image_url: bool = ImageUrlSettings.enabled
    """Fetch images from the URLs that clients give."""
    image_url_allow: Names = ()
    """Hosts or networks, `:port` or not, that URLs may reach beside public addresses."""
    image_url_max_bytes: Count = ImageUrlSettings.max_bytes
    """Largest image fetched from a URL."""
    image_url_connect_timeout_s: Seconds = ImageUrlSettings.connect_timeout_s
    """Time to connect to a URL's host."""
    image_url_timeout_s: Seconds = ImageUrlSettings.total_timeout_s
    """Time for the whole fetch."""
    image_url_max_redirects: Annotated[int, Field(ge=0)] = ImageUrlSettings.max_redirects
    """Redirects that are followed."""

    @field_validator("preload", "image_url_allow", "cors_allow_origins", "allow_hosts", "ros_node", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("ros_args", mode="before")
    @classmethod
    def _split_words(cls, value: Any) -> Any:
        return tuple(shlex.split(value)) if isinstance(value, str) else value

    @field_validator(*CHOICES)
    @classmethod
    def _know_choice(cls, value: str, info: ValidationInfo) -> str:
        known = CHOICES[info.field_name or ""]
        if value not in known:
            raise ValueError(f"unknown {value!r}; known: {', '.join(known)}")
        return value

    @model_validator(mode="after")
    def _be_one_participant(self) -> BridgeSettings:
        if self.ros and self.workers > 1:
            raise ValueError(
                f"ros needs 1 worker, got {self.workers}: each would receive every frame of the robot once more"
            )
        return self

    @model_validator(mode="after")
    def _order_sizes(self) -> BridgeSettings:
        default = self.default_input_size or own_input_size(self.default_dataset)
        if not self.min_input_size <= default <= self.max_input_size:
            raise ValueError(
                f"default_input_size {default} must be "
                f"min_input_size ({self.min_input_size}) to max_input_size ({self.max_input_size})"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings

    @property
    def listen_host(self) -> str:
        """Address to listen on: all interfaces if a key is required, else this machine alone."""
        return self.host or ("0.0.0.0" if self.has_keys else LOCAL_HOSTS[0])

    @property
    def checks_hosts(self) -> bool:
        """Whether requests have to call a server without keys by a name of its own."""
        return "*" not in self.allow_hosts and (bool(self.allow_hosts) or self.listen_host in LOCAL_HOSTS)

    @property
    def has_keys(self) -> bool:
        """Whether clients need a key."""
        return self.api_key is not None or self.api_keys_file is not None

    @property
    def session_secret_bytes(self) -> bytes:
        """What sessions are signed with; another at each call where none is set."""
        secret = self.session_secret
        return secrets.token_bytes(32) if secret is None else secret.get_secret_value().encode()

    @property
    def warnings(self) -> list[str]:
        """Warnings for the operator."""
        if self.has_keys or self.listen_host in LOCAL_HOSTS:
            return []
        return [f"no API key is set: everybody who reaches {self.listen_host} can use this server"]

    @property
    def image_limits(self) -> ImageLimits:
        """Caps for `image_header.check_image`."""
        return ImageLimits(self.max_pixels, self.max_side, self.max_aspect_ratio)

    @property
    def input_limits(self) -> InputLimits:
        """Caps for the estimator."""
        return InputLimits(self.max_aspect_ratio, self.max_tokens)

    @property
    def image_url_settings(self) -> ImageUrlSettings:
        """What `ImageFetcher` takes."""
        return ImageUrlSettings(
            enabled=self.image_url,
            allow=self.image_url_allow,
            max_bytes=self.image_url_max_bytes,
            connect_timeout_s=self.image_url_connect_timeout_s,
            total_timeout_s=self.image_url_timeout_s,
            max_redirects=self.image_url_max_redirects,
        )
