"""What a cluster does to a run: several processes, preemption, hangs."""
