"""Small tools that data sets and trainers written for Dassl import."""

from dassl.utils.checkpoints import load_checkpoint as load_checkpoint
from dassl.utils.checkpoints import load_pretrained_weights as load_pretrained_weights
from dassl.utils.checkpoints import resume_from_checkpoint as resume_from_checkpoint
from dassl.utils.checkpoints import save_checkpoint as save_checkpoint
from dassl.utils.layers import init_network_weights as init_network_weights
from dassl.utils.layers import open_all_layers as open_all_layers
from dassl.utils.layers import open_specified_layers as open_specified_layers
from dassl.utils.logger import Logger as Logger
from dassl.utils.logger import setup_logger as setup_logger
from dassl.utils.meters import AverageMeter as AverageMeter
from dassl.utils.meters import MetricMeter as MetricMeter
from dassl.utils.registry import Registry as Registry
from dassl.utils.tools import check_isfile as check_isfile
from dassl.utils.tools import collect_env_info as collect_env_info
from dassl.utils.tools import count_num_param as count_num_param
from dassl.utils.tools import listdir_nohidden as listdir_nohidden
from dassl.utils.tools import mkdir_if_missing as mkdir_if_missing
from dassl.utils.tools import read_image as read_image
from dassl.utils.tools import read_json as read_json
from dassl.utils.tools import reading_of as reading_of
from dassl.utils.tools import set_random_seed as set_random_seed
from dassl.utils.tools import tolist_if_not as tolist_if_not
from dassl.utils.tools import write_json as write_json
