"""The tiny model that ships with the package: its data, its training, its measurement. See README.md."""
