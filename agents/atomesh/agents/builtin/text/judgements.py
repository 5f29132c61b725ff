"""Words of judgement that VADER's lexicon lacks: how people review things rather than how they tweet.

VADER (2014) was made for microblogs. Three in ten sentences of labelled
product reviews hold none of its words and come out neutral, and four in five
of those are not: "mediocre", "overpriced", "sturdy". These are written down by
hand, without a panel of raters, so all weigh alike: as much as VADER's "good".
Left out are words that judge in a review and mean nothing elsewhere ("slow",
"moving", "flat", "works"). On labelled tweets nothing changes, which is the
condition; docs/text-agent.md has the figures with and without.
"""

from __future__ import annotations

from typing import Final

STRENGTH: Final = 1.9
"""Of each, on VADER's scale of -4 to 4; "good" has 1.9. From 1.5 to 2.2 accuracy moves by less than half a point."""

_PRAISE = """
absorbing accessible addictive affordable appetizing artful astonishing attentive authentic award-winning beguiling
bewitching bracing captivating charismatic cohesive colorful comfy cozy crisp dazzling deft deftly dependable
durable easy-to-use effortless effortlessly enchanting engrossing enriching enthralling ergonomic evocative exceeded
expertly exquisite exquisitely extraordinary eye-opening feel-good first-class first-rate flavorful full-bodied gem
gems good-natured gripping groundbreaking handy hassle-free heart-warming hearty hypnotic imaginative immaculate
immersive impeccable ingenious insightful intuitive inventive irresistibly juicy knockout laugh-out-loud lightweight
loveable luminous lush lyrical masterful masterfully masterly memorable mesmerizing meticulous mind-blowing moist
mouth-watering mouthwatering must-have must-see nail-biting nuanced page-turner peerless phenomenal poetic poignant
polished priceless pristine refreshing refreshingly reliable riveting roomy rugged seamless seamlessly sensational
skilful skillful skillfully sleek snappy solidly soulful spacious spectacular speedy spellbinding spotless standout
sterling stirring stunningly sturdy stylish sublime succulent sumptuous tantalizing tasty tender thought-provoking
timeless top-notch tour-de-force transcendent unbeatable understated unforgettable unique unparalleled unrivaled
user-friendly versatile vivid vividly well-acted well-built well-crafted well-designed well-done well-executed
well-made well-written wholesome witty wondrous world-class zesty
"""

_BLAME = """
abysmal amateurish atrocious banal bland bloated botched buggy by-the-numbers cheaply cheesiness cheesy cliched
cliches clichéd clichés clunky contrived cookie-cutter corny cramped crashes creaky crummy cumbersome deceptive
dingy drivel exasperating flavorless flimsy forgettable formulaic glitchy grubby hackneyed half-baked ham-fisted
heavy-handed hideous hokey illogical implausible inaccurate inane inattentive incoherent inconsistent inedible
inefficient inept insufferable interminable junk lacked lacking lackluster lacks laggy leaden leaky lifeless
lumbering malfunctioned malfunctioning meandering mediocre melodramatic misfire misguided monotonous muddled mushy
nauseating nonsensical outdated overacted overbearing overblown overcooked overdone overhyped overlong overpriced
overrated overwrought paltry plodding pointless poorly predictable preposterous pretentious rip-off ripoff rubbish
run-of-the-mill schlocky scratchy shallow shoddy skimpy slapdash sloppy smelly soggy soulless stale stilted stodgy
subpar substandard superficial tacky tasteless tawdry tedious tepid threadbare tiresome torpid trashy tuneless
turgid unappealing unbearable unbearably unconvincing undercooked underdeveloped understaffed underwhelming uneven
unfinished unfunny unhelpful unimaginative uninspired uninteresting unoriginal unpersuasive unplayable unpleasantly
unpolished unreadable unreliable unremarkable unresponsive unsatisfactory unsatisfying unusable unwatchable unwieldy
vacuous vapid witless wobbly wretched
"""

PRAISE: Final = frozenset(_PRAISE.split())
BLAME: Final = frozenset(_BLAME.split())
