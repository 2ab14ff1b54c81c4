"""The main job of `hubbub demo`: teams of agents read real text together while their broker is killed once.

Pure, and to be read first:

    corpus, plan          which text there is, and who reads which piece of it
    words, prose          text to terms, sentences and definitions
    research, analysis, synthesis
                          a piece of text -> a finding; findings -> an analysis; analyses -> a section of the report
    stages                research, analysis, synthesis as a workflow, and whether a history went that way
    roles                 what each kind of agent answers to what it hears
    witness, audit        what one agent was handed; what many such records say about lost, duplicated, swapped
    latency, report, outcome

With processes and sockets:

    member, chair, worker an agent and its conversation; the one who leads it; a process full of them
    tether, broker, crew  processes that end with their parent; the broker, to be killed; the workers
    replay                the whole history again, over HTTP
    display, job          what the user sees meanwhile; all of it, in order
"""
