"""The typed configuration of a run, its TOML form, the built-in recipes and overrides."""

from gatewise.config.load import load_config, parse_override, recipe_names, recipe_text, to_toml
from gatewise.config.schema import Config, DataConfig, LoggingConfig, ModelConfig, RuntimeConfig, TrainingConfig
from gatewise.config.tasks import TASKS

__all__ = [
    "TASKS",
    "Config",
    "DataConfig",
    "LoggingConfig",
    "ModelConfig",
    "RuntimeConfig",
    "TrainingConfig",
    "load_config",
    "parse_override",
    "recipe_names",
    "recipe_text",
    "to_toml",
]
