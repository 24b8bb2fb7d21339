//! Reads the configuration file and environment into the options of each module.
