/** The name of the file that the folder's `auto_map` refers to. */
export const configModuleFile = 'configuration_nemotron_nas.py'

/** The source of a config class whose blocks have attributes, because vLLM reads them this way. */
export const configModule = `"""The config of a pruned model in the form of Nemotron-NAS: \`block_configs\` has the sizes of each block. No other code is run."""

from transformers import PretrainedConfig


class Section(dict):
    """A part of the config whose entries are read as attributes; one that is not there is no attribute."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class NemotronNasConfig(PretrainedConfig):
    model_type = "nemotron-nas"

    def __init__(self, block_configs=(), **entries):
        self.block_configs = [Section({part: Section(sizes) for part, sizes in block.items()}) for block in block_configs]
        super().__init__(**entries)
`
