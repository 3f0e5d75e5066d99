"""What lies at addresses that users, models and pages name, asked for so that nothing inside is reached."""
