"""A SafetyKit that runs on this machine: fleet model and ASGI app."""
