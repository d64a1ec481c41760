"""Who works on what: queues of DBOS, executors, hosts, decisions of people."""
