"""The end of groups of processes."""

import multiprocessing

import torch
from process_threads import check_groups_ended
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from saratrx.process_groups import end_groups


def step(rank, folder):
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    model.itself = [model]  # as in a runner and its hooks: only the collector of cycles frees it


def take_a_step(rank, folder):
    torch.set_num_threads(1)
    step(rank, folder)
    end_groups()
    check_groups_ended()


def test_the_threads_of_a_group_end_with_it(tmp_path):
    forks = multiprocessing.get_context("fork")
    both = [forks.Process(target=take_a_step, args=(rank, tmp_path)) for rank in (0, 1)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
        assert each.exitcode == 0


def test_without_a_group_nothing_ends():
    end_groups()
