"""A study of seconds."""

SETTINGS = [
    "--system.init_args.nodes=9",
    "--system.init_args.refine=1",
    "--pairs=60",
    "--held_out=24",
    "--test_fields=3",
    "--sensors=[12]",
    "--network.dim=2",
    "--network.width=8",
    "--network.depth=2",
    "--network.levels=2",
    "--network.encoder=4",
    "--network.features=8",
    "--inversion.climbs=2",
    "--inversion.chains=2",
    "--inversion.draws=40",
    "--inversion.warmup=20",
    "--inversion.solved=39",
    "--training.max_steps=30",
    "--training.batch_size=16",
    "--training.warmup_steps=3",
    "--training.kl_warmup_steps=5",
    "--training.validate_every=15",
]
"""Overrides of any preset on the square."""
