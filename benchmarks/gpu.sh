#!/bin/bash
# Check and measure everything that runs on a GPU, in less than ten minutes:
# bash benchmarks/gpu.sh [options of benchmarks.gpu]
# It needs no DVC, Prefect or Great Expectations. The results go to $OUT, or to benchmarks/results.
set -u
cd "$(dirname "$0")/.." || exit 1
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
"$python" -m pytest --noconftest -o addopts= -o filterwarnings=default -p no:cacheprovider -q -k gpu \
    tests/tasks/embedding/test_embedder.py tests/tasks/embedding/test_embedding_on_gpu.py \
    tests/tasks/training/test_training_on_gpu.py
"$python" -m benchmarks.gpu "$@"
