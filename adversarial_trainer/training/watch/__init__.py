"""Several processes, one fate: where one dies, hangs or fails, all end within a minute.

Every rank has a thread that puts a record of what the rank is doing into the store of the process
group once a second, and reads those of the others (`exchange`). What they say together is a pure
function (`judging`): a rank that no longer writes has died; one for which others wait, and which
shows no progress, hangs; one whose main function raised has failed. Then each rank logs one line
that names the culprit, and ends (`watcher`). `rendezvous` is how the processes find one another,
with a limit too. A single process runs none of this.
"""

from .rendezvous import StartError, join
from .watcher import STATUS, Watch

__all__ = ["STATUS", "StartError", "Watch", "join"]
