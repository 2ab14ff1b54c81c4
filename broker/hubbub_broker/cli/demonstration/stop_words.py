"""Words that are frequent everywhere, so that they tell nothing about a text: of English, and of Python programs."""

STOP_WORDS = frozenset(
    """
    a about above after again against all also always am an and another any anything are aren't as at back be became
    because become been before being below between both but by came can can't cannot could couldn't did didn't do does
    doesn't doing don't done down during each either else enough etc even ever every few first for from further get
    gets given go goes had has hasn't have haven't having he hence her here hers herself him himself his how however
    i'd i'll i'm i've if in instead into is isn't it it's its itself just last least less let like made make makes
    many may me might more most much must my myself need needs never new no nor not nothing now of off often on once
    one only or other others otherwise our ours ourselves out over own per rather really said same see seem seems she
    should shouldn't since so some something still such take than that that's the their theirs them themselves then
    there therefore these they they're thing things this those though through thus to together too two under unless
    until up upon us use used uses using usually very want was wasn't way we well were weren't what when where whether
    which while who whom whose why will with within without won't would wouldn't yes yet you you're your yours yourself

    and arg args assert async attr await bool bytes cls def del dict elif else except false finally float for from
    func global import init int isinstance kwargs lambda len list none nonlocal not obj object param params pass print
    raise raises repr return returns self set str super true try tuple type val value values while with yield
    """.split()
)
