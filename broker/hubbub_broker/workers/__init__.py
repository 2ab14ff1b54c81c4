"""Several processes that are one broker: `--workers N`. docs/workers.md says what crosses between them.

supervisor   starts the workers, starts one that dies again, and joins them; moves no message
template     forks the workers
control      what the supervisor and a worker say to each other
process      a worker: a `Server` whose sockets, links and end come from the supervisor
services     what a worker does for the others
fellows      the other workers over HTTP
forward      HTTP requests that are another worker's, or all workers'
gather       many workers' answers put together as one; exposition likewise, of metrics
figures      what is counted of workers
"""
