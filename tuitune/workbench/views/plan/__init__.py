"""The parts of the plan view: what was read, the sliders, the state as plain data, what is drawn and what is written."""
