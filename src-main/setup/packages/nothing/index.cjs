throw new Error('This package is left out: only the install script of tfjs-node-gpu would load it. See src-main/setup/README.md.')
