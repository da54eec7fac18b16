"""The motion generator: flow matching with a multi-stream transformer; knows neither files' sounds nor pictures."""
