"""Detection annotations: checks of COCO files, conversion, splits. Imports neither PyTorch nor MMDetection."""

from coco_annotations.installation import check_imports, check_installed

check_installed("numpy", "PIL", "cv2", "tqdm", "tabulate", "defusedxml", "yaml")
check_imports("cv2")
