"""The rules of planning systems, which CT files must keep before they are sent."""
