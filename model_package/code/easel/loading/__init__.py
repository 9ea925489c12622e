"""From a folder or the hub to a pipeline on the device."""
