"""The engine under Dassl's names: what data sets and trainers written for Dassl.pytorch (Zhou et al., 2021) use.

Domain adaptation and generalisation are left out. Images have one channel, as SAR amplitude does.
"""
