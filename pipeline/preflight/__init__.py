"""The rules of planning systems, asked of CT files before they are sent."""
