"""OpenTelemetry's spans and logs as values, and what makes them of messages and back."""
