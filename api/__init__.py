"""The HTTP service. Stands on `kb`; the only floor that knows of requests and statuses."""
