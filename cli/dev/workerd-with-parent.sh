#!/bin/sh
# Runs workerd so that it ends with the process that started it, in whatever way that one ends. SIGKILL leaves nobody who
# could end it otherwise, and a workerd that is left behind keeps its ports.
#
# In: workerd's own arguments; its path in FAIRLEAD_WORKERD. Out: workerd, in this very process, with its pipes.

# Linux tells a process of its parent's death, and the signal survives exec. Not every setpriv can ask for it.
if setpriv --pdeathsig KILL true >/dev/null 2>&1; then
  exec setpriv --pdeathsig KILL -- "$FAIRLEAD_WORKERD" "$@"
fi

# Elsewhere somebody looks now and then; without the pipes, which must close when workerd closes them.
parent=$PPID
self=$$
(
  while kill -0 "$parent" && kill -0 "$self"; do sleep 1; done
  kill -KILL "$self"
) </dev/null >/dev/null 2>&1 3>&- &
exec "$FAIRLEAD_WORKERD" "$@"
