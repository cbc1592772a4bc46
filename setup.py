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
    python_requires=">=3.11,<3.14",
    # Said although it is the default: an editable install is one line of a .pth then.
    package_dir={"": "."},
    packages=setuptools.find_namespace_packages(include=["official", "official.*"]),
    package_data={"official.alexnet": ["configs/*.yaml"]},
    # Each lower bound is tested, by `make test-oldest`. CVE: what is below it.
    install_requires=[
        # tensorflow-model-optimization asks for 1.2 to 1.4.
        "absl-py>=1.4,<3",
        # TFDS 4.9 imports it and does not say so.
        "importlib_resources>=6.0,<8",
        # The checksums of records, without TensorFlow.
        "google-crc32c>=1.6,<2",
        # Where weights are read out of a .keras file; TensorFlow 2.19 asks for 3.11.
        "h5py>=3.11,<4",
        # CVE-2025-12058, -12060, CVE-2026-0897, -1462; path traversal in `get_file`
        # (GHSA-hqp4-2352-xf5r), which 3.12.4 repairs and 3.13 does not.
        "keras>=3.12.4,!=3.13.*,<3.16",
        "numpy>=1.26,<3",
        # Preparation: the filters of 2014, and JPEG.
        "opencv-python-headless>=4.11.0.86,<6",
        # CVE-2026-25990, -40192, -54059, -54060, -55379, -55380, -55798.
        "Pillow>=12.3,<14",
        # TensorFlow brings it; Caffe's files and records are read with it.
        # CVE-2026-0994.
        "protobuf>=5.29.6,<8",
        # The first with wheels for Python 3.11.
        "PyYAML>=6.0.1,<7",
        "safetensors>=0.6.1,<1",
        # Decodes prepared records; the first with wheels for Python 3.13.
        "simplejpeg>=1.8.1,<2",
        # Tests of weights' distributions; the files of tools/make_sample_imagenet.py.
        "scipy>=1.12,<2",
        # TensorBoard 2.19 and 2.20 import pkg_resources, which 82 no longer has.
        # CVE-2025-47273.
        "setuptools>=78.1.1,<82",
        "tensorboard>=2.19,<2.22",
        # The grid leans on a private attribute: no release that was not tried.
        "tensorflow>=2.19,<2.22",
        "tensorflow-datasets>=4.9.8,<5",
        # CVE-2024-34062.
        "tqdm>=4.66.3,<5",
    ],
    extras_require={
        # It holds protobuf below 7 and Pillow below 13 (2.77).
        "beam": ["apache-beam>=2.60,<3"],
        "bench": [
            "onnx>=1.21,<2",
            "onnxruntime>=1.18",
            "openvino>=2024.4",
            "torch>=2.4",
        ],
        "gpu": ["tensorflow[and-cuda]>=2.19,<2.22"],
        # CVE-2026-27489, -28500, -34445.
        "onnx": ["onnx>=1.21,<2"],
        "oracles": [
            # OpenCV 5 has no importer of Caffe's files.
            "opencv-python-headless>=4.8,<5",
            "openvino>=2024.4",
            "torch>=2.4",
        ],
        "parquet": ["pyarrow>=17"],
        "plots": ["matplotlib>=3.8", "pandas>=2.2"],
        "ray": ["ray[train]>=2.60,<3"],
        "torch": ["torch>=2.4"],
        "test": [
            # Where LiteRT's interpreter is from once TensorFlow has none.
            "ai-edge-litert>=2.0,<3",
            "matplotlib>=3.8",
            "onnx>=1.21,<2",
            "onnxruntime>=1.18",
            "packaging>=24.0",
            "pandas>=2.2",
            "pyarrow>=17",
            "pytest>=9.0.3",
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
