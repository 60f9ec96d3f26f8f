"""The daemon: Faust's app and consumer, what is assigned and settled, back-pressure, health, start and stop."""
