#!/usr/bin/env bash
# Install NVIDIA apex from source, for those who want it. Nothing in SARATR-X needs it: PyTorch's fused AdamW and autocast
# are what the stages use.
#   bash install_apex.sh [folder for the source, default ./apex]
set -euo pipefail

refuse() {
    echo "apex cannot be installed here: $1 SARATR-X runs without it." >&2
    exit 1
}

folder=${1:-apex}
python=$(command -v python || command -v python3) || refuse "there is no Python on the path."
command -v git >/dev/null || refuse "git is missing."
command -v nvcc >/dev/null || refuse "nvcc, the CUDA compiler, is not on the path; install the CUDA toolkit."
"$python" -c "import torch" 2>/dev/null || refuse "$python has no PyTorch; run pip install -r requirements_pretrain.txt first."
"$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" || refuse "PyTorch sees no CUDA GPU."

[ -d "$folder" ] || git clone --depth 1 https://github.com/NVIDIA/apex "$folder" || refuse "its source could not be fetched."
"$python" -m pip install setuptools wheel packaging ninja
APEX_CPP_EXT=1 APEX_CUDA_EXT=1 "$python" -m pip install -v --no-build-isolation "$folder"
"$python" -c "import apex; from apex.optimizers import FusedAdam; print('apex is installed in', apex.__path__[0])"
