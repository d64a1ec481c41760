"""The pages and the endpoints of watchers. starlette and uvicorn are used nowhere else."""
