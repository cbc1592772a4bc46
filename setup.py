"""Packaging of official.alexnet; tools' settings are in pyproject.toml."""

import pathlib

import setuptools

setuptools.setup(
    name="official-alexnet",
    version="0.1.0",
    description="AlexNet (Krizhevsky et al. 2012) with its two columns, for TensorFlow",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=setuptools.find_namespace_packages(include=["official", "official.*"]),
    package_data={"official.alexnet": ["configs/*.yaml"]},
    install_requires=[
        "absl-py>=2.1",
        # TFDS 4.9 imports it and does not say so.
        "importlib_resources>=6.0",
        "keras>=3.10",
        "numpy>=1.26",
        "Pillow>=10.1",
        "PyYAML>=6.0",
        "tensorboard>=2.19",
        "tensorflow>=2.19",
        "tensorflow-datasets>=4.9.8",
        "tqdm>=4.66",
    ],
    extras_require={
        "bench": [
            "onnx>=1.16",
            "onnxruntime>=1.18",
            "openvino>=2024.4",
            "simplejpeg>=1.7",
            "torch>=2.4",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.19"],
        "onnx": ["onnx>=1.16"],
        "oracles": [
            "opencv-python-headless>=4.8",
            "openvino>=2024.4",
            "safetensors>=0.4",
            "torch>=2.4",
        ],
        "plots": ["matplotlib>=3.8"],
        "test": [
            "onnx>=1.16",
            "onnxruntime>=1.18",
            "pytest>=8.0",
            "pytest-xdist>=3.5",
            "ruff>=0.12",
        ],
    },
    entry_points={
        "console_scripts": [
            "alexnet-train = official.alexnet.train:run",
            "alexnet-eval = official.alexnet.eval:run",
            "alexnet-export = official.alexnet.export:run",
            "alexnet-predict = official.alexnet.predict:run",
        ]
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
