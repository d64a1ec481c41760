"""An analytic thigh as test object, and the constancy measurement with it."""
