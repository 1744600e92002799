"""Building the set to pre-train on: images cut to chips, without copies, apart from what models are tested on."""
