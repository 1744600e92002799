"""The seven data sets of the published experiments, as facts."""

from typing import Any

from dassl.data.datasets import DATASET_REGISTRY
from hivit_cls.datasets.image_folders import FolderDataset, Layout

VEHICLES = {  # the ten of MSTAR, in the order of the labels
    "BMP2": "BMP2, infantry fighting vehicle",
    "BTR70": "BTR70, armoured personnel carrier",
    "T72": "T72, main battle tank",
    "BTR60": "BTR60, armoured personnel carrier",
    "2S1": "2S1, self-propelled howitzer",
    "BRDM2": "BRDM2, armoured reconnaissance vehicle",
    "D7": "D7, bulldozer",
    "T62": "T62, main battle tank",
    "ZIL131": "ZIL131, military truck",
    "ZSU234": "ZSU234, self-propelled anti-aircraft gun",
}
FUSAR = {  # ships and what they are confused with, Gaofen-3
    "Bridges": "bridge",
    "Cargo": "cargo ship",
    "CoastalLands_island": "coastal land",
    "Fishing": "fishing ship",
    "LandPatches": "land patch",
    "OtherShip": "other ship",
    "SeaClutterWaves": "sea clutter wave",
    "SeaPatches": "sea patch",
    "StrongFalseAlarms": "strong false alarm",
    "Tanker": "tanker",
}
AIRCRAFT = {
    "A220": "A220",
    "A330": "A330",
    "ARJ21": "ARJ21",
    "Boeing737": "Boeing 737",
    "Boeing787": "Boeing 787",
}

# The size of an MSTAR chip tells its class: ZIL131 192x193 px, D7 177x178, T62 172x173. A crop does not.
MSTAR_CROP = 128


def vehicles(*names: str) -> dict[str, str]:
    """Take some of MSTAR's classes, in the order given."""
    return {name: VEHICLES[name] for name in names}


def mstar(folder: str, classes: dict[str, str], **kwargs: Any) -> Layout:
    """Describe a set of MSTAR chips."""
    return Layout(folder, ("TRAIN", "TEST"), classes, (".jpeg",), centre_crop=MSTAR_CROP, **kwargs)


SOC_COUNTS = {  # 17 degrees, 15 degrees
    "BMP2": (233, 195),
    "BTR70": (233, 196),
    "T72": (232, 196),
    "BTR60": (256, 195),
    "2S1": (299, 274),
    "BRDM2": (298, 274),
    "D7": (299, 274),
    "T62": (299, 273),
    "ZIL131": (299, 274),
    "ZSU234": (299, 274),
}

EOC2 = vehicles("BMP2", "BRDM2", "BTR70", "T72")
# 17 degrees, 30 degrees
EOC1_COUNTS = {"2S1": (299, 288), "BRDM2": (298, 287), "T72": (232, 288), "ZSU234": (299, 288)}


def with_tests(**tests: int) -> dict[str, tuple[int, int]]:
    """Give the counts of an EOC2 set: SOC's training images, 996 in all, and the tests of some classes."""
    return {name: (SOC_COUNTS[name][0], tests.get(name, 0)) for name in EOC2}


LAYOUTS = {
    "MSTAR_SOC": mstar("MSTAR_SOC", VEHICLES, counts=SOC_COUNTS),
    # Extended operating conditions: another depression angle, other configurations, other versions
    "MSTAR_EOC1": mstar("MSTAR_EOC1", vehicles("2S1", "BRDM2", "T72", "ZSU234"), is_complete=False, counts=EOC1_COUNTS),
    "MSTAR_EOC2C": mstar("MSTAR_EOC2C", EOC2, is_complete=False, counts=with_tests(T72=2710)),
    "MSTAR_EOC2V": mstar("MSTAR_EOC2V", EOC2, is_complete=False, counts=with_tests(BMP2=857, T72=2712)),
    "New_FUSAR": Layout("New_FUSAR", ("Train", "Val"), FUSAR, (".jpg", ".png")),
    "SAR_ACD": Layout(
        "SAR_ACD",
        ("images",),
        AIRCRAFT,
        (".jpg",),
        train_share=0.1,
        counts={"A220": (464,), "A330": (512,), "ARJ21": (514,), "Boeing737": (528,), "Boeing787": (504,)},
    ),
    "MyDataset": Layout(  # SAR-VSA: vehicles, ships, aircraft
        "MyDataset",
        ("TRAIN", "TEST"),
        VEHICLES | FUSAR | AIRCRAFT,
        (".png",),
        counts=SOC_COUNTS
        | {
            "BMP2": (698, 587),  # all configurations and versions, like T72
            "T72": (691, 582),
            "Bridges": (1023, 438),
            "Cargo": (366, 156),
            "CoastalLands_island": (707, 303),
            "Fishing": (248, 106),
            "LandPatches": (1137, 487),
            "OtherShip": (312, 133),
            "SeaClutterWaves": (1378, 590),
            "SeaPatches": (1250, 535),
            "StrongFalseAlarms": (299, 128),
            "Tanker": (150, 64),
            "A220": (91, 373),
            "A330": (97, 415),
            "ARJ21": (103, 411),
            "Boeing737": (100, 428),
            "Boeing787": (113, 391),
        },
    ),
}

for _name, _layout in LAYOUTS.items():
    DATASET_REGISTRY.register(type(_name, (FolderDataset,), {"layout": _layout, "__doc__": f"{_name}; see LAYOUTS."}))
