"""The notifier: tells alerts to webhooks.

It looks at every address before it calls, signs what it sends, tries again when that helps, and writes no secret anywhere.
"""
