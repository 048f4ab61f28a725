"""Profile handlers: which profiles decide a request, and what their decisions make together."""
