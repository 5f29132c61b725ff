"""Words that carry grammar, not topic, by language: articles, pronouns, prepositions, conjunctions, auxiliaries.

Written for this project from the closed word classes of each language, with
the adverbs and verbs of speech that fill its prose; small on purpose. A word
missing here costs a little precision, a content word listed here can never be
a keyword. All lower case; apostrophes are the ASCII one.
"""

from __future__ import annotations

from typing import Final

STOP_WORDS: Final[dict[str, str]] = {
    "en": """
a about above according accordingly across actually after afterwards again against ago all almost alone along already
also although always am among amongst an and another any anybody anyhow anyone anything anyway anywhere apart are
aren't around as aside at away back be became because become becomes becoming been before beforehand behind being
below beside besides best better between beyond both but by came can can't cannot certain certainly clearly come comes
could couldn't currently despite did didn't do does doesn't doing don't done down during each either else elsewhere
enough especially etc even ever every everybody everyone everything everywhere exactly except far few fewer finally
find finds first firstly five following follows for former formerly found four from further furthermore gave generally
get gets getting give given gives go goes going gone got great had hadn't hardly has hasn't have haven't having he he'd
he'll he's hence her here hereby herein here's hers herself him himself his how however i i'd i'll i'm i've ie if
immediately in including indeed inside instead into is isn't it it'd it'll it's its itself just keep keeps kept kind
know known knows largely last lately later latter least less let let's lets like likely little look looks lot lots
made mainly make makes making many may maybe me mean means meanwhile might mine more moreover most mostly much must
mustn't my myself namely near nearly necessarily need needs neither never nevertheless new next nine no nobody none
nonetheless nor normally not nothing now nowhere obviously of off often oh ok okay on once one ones only onto or other
others otherwise ought our ours ourselves out outside over overall own particular particularly per perhaps please
possible possibly presumably probably provide provided provides providing put quite rather really recently regarding
relatively respectively right s said same saw say saying says second secondly see seem seemed seeming seems seen
self several shall shan't she she'd she'll she's should shouldn't show showed shown shows similarly simply since six
so some somebody somehow someone something sometimes somewhat somewhere soon still such sure t take taken takes taking
tell ten tends than that that'll that's the their theirs them themselves then thence there thereafter thereby
there's therefore therein these they they'd they'll they're they've thing things think third this those though three
through throughout thus to together too took toward towards tried tries truly try trying twice two under unless
unlike unlikely until up upon us use used useful uses using usually various very via want wants was wasn't way ways we
we'd we'll we're we've well went were weren't what whatever what's when whence whenever where whereas whereby wherein
where's wherever whether which whichever while who who's whoever whole whom whose why will with within without won't
would wouldn't yes yet you you'd you'll you're you've your yours yourself yourselves zero e.g i.e vs et al http
https www
""",
    "de": """
aber alle allem allen aller alles als also am an andere anderem anderen anderer anderes anders auch auf aus bald
bei beide beiden beim beispielsweise bereits besonders bevor bin bis bisher bist bzw da dabei dadurch dafür dagegen
daher dahin damals damit danach daneben dann daran darauf daraus darf darin darum darunter darüber das dass dasselbe
davon davor dazu dein deine deinem deinen deiner dem demselben den denn dennoch denselben der deren derselbe derselben
des deshalb desselben dessen dich die dies diese dieselbe dieselben diesem diesen dieser dieses dir doch dort du durch
dürfen ebenso ehe ein eine einem einen einer eines einfach einige einigen einiger einiges einmal er erst es etwa etwas
euch euer eure eurem euren eurer falls fast für ganz gar gegen gegenüber genau gern gewesen gibt ging hab habe haben
hat hatte hatten hattest hier hin hinter hätte hätten ich ihm ihn ihnen ihr ihre ihrem ihren ihrer ihres im immer in
indem infolge innerhalb ins insbesondere ist ja je jede jedem jeden jeder jedes jedoch jemals jemand jene jenem jenen
jener jenes jetzt kann kannst kaum kein keine keinem keinen keiner keines können könnte könnten lassen laut lässt mal
man manche manchem manchen mancher manches mehr mehrere mein meine meinem meinen meiner meist mich mir mit mittels muss
musste mussten möchte mögen müssen nach nachdem nachher neben nein nicht nichts nie niemals niemand noch nun nur ob
oben oder oft ohne per schon sehr sei seid sein seine seinem seinen seiner seines seit seitdem selbst selten sich sie
sind so sobald sofern sogar solange solch solche solchem solchen solcher solches soll sollen sollte sollten somit
sondern sonst soweit sowie sowohl statt stets trotz trotzdem um und uns unser unsere unserem unseren unserer unter viel
viele vielen vieler vom von vor vorher war waren warst warum was weder wegen weil weiter weitere weiteren welche
welchem welchen welcher welches wenig wenige wenn wer werde werden wessen wie wieder will wir wird wirst wo wobei wohl
wollen wollte wollten worden wurde wurden während wäre wären würde würden z.b zu zudem zum zumindest zur zurück zwar
zwischen über überhaupt übrigens
""",
    "fr": """
à afin ai aie aient ainsi ait alors après as assez au aucun aucune aujourd'hui auprès auquel aura aurait auraient
auront aussi aussitôt autant autour autre autres aux auxquelles auxquels avaient avait avant avec avez aviez avions
avoir avons ayant beaucoup bien car ce ceci cela celle celles celui cependant certain certaine certaines certains ces
cet cette ceux chacun chacune chaque chez ci combien comme comment contre d d'abord dans de debout dedans dehors déjà
depuis derrière des dès desquelles desquels dessous dessus deux devant devait devra devrait doit doivent donc dont du
duquel durant elle elles en encore enfin ensuite entre envers environ es est et étaient étais était étant été êtes
être eu eurent eut eux fait faire fait faut fois font fut furent grâce hors ici il ils j je jamais jusqu jusque l la là
laquelle le lequel les lesquelles lesquels leur leurs lors lorsque lui m ma mais malgré me même mêmes mes mien mienne
moi moins mon n ne néanmoins ni non nos notamment notre nôtre nous nul on ont or ou où par parce parfois parmi pas
pendant personne peu peut peuvent plus plusieurs plutôt pour pourquoi pourrait pourtant près presque puis puisque qu
quand quant que quel quelle quelles quelque quelques quels qui quiconque quoi quoique rien s sa sans sauf se selon
sera serait seraient seront ses seul seule seulement si sien sienne sinon soi soient sois soit sommes son sont souvent
sous suis sur surtout t ta tandis tant te tel telle telles tellement tels tes toi ton toujours tous tout toute toutefois
toutes très trop tu un une va vers voici voilà vont vos votre vôtre vous vraiment y c
""",
    "es": """
a acá además ahí ahora al algo alguien algún alguna algunas alguno algunos allá allí ambas ambos ante antes apenas
aquel aquella aquellas aquello aquellos aquí así aun aún aunque bajo bastante bien cabe cada casi cierta ciertas cierto
ciertos como cómo con conmigo consigo contigo contra cual cuál cuales cuáles cualquier cualquiera cuando cuándo cuanta
cuantas cuanto cuánto cuantos de debajo debe deben deber decir del demás demasiado dentro desde después detrás dice
dicho donde dónde dos durante e él ella ellas ello ellos embargo en encima entonces entre era eran eras eres es esa
esas ese eso esos está estaba estaban están estar estas éstas este éste esto estos éstos estoy esta ésta fin fue fuera
fueron fui ha haber había habían habrá habría hace hacen hacer hacia hacía han has hasta hay haya he hemos hizo hoy
hubo incluso ir jamás junto juntos la las le les lo los luego mal más mas me mediante menos mi mí mía mías mientras mío
míos mis misma mismas mismo mismos mucha muchas mucho muchos muy nada nadie ni ningún ninguna ningunas ninguno ningunos
no nos nosotras nosotros nuestra nuestras nuestro nuestros nunca o os otra otras otro otros para parte pero poca pocas
poco pocos podría podrían por porque pronto pudo puede pueden pues que qué quien quién quienes quienes sea sean según
ser será serán sería si sí sido siempre siendo sin sino sobre sois sola solamente solo sólo somos son soy su sus suya
suyas suyo suyos tal tales también tampoco tan tanta tantas tanto tantos te tenemos tener tenía tenían tengo ti tiene
tienen toda todas todavía todo todos tras través tu tú tus tuya tuyo un una unas uno unos usted ustedes va van varias
varios vez veces vosotras vosotros vuestra vuestras vuestro vuestros y ya yo
""",
    "it": """
a abbia abbiamo abbiano ad adesso affinché agli ai al alcun alcuna alcune alcuni alcuno all alla alle allo allora
almeno altra altre altri altrimenti altro anche ancora anzi appena assai attraverso avanti avendo avere avesse aveva
avevano avevo avrà avrebbe avuto benché bene c c'è che chi chiunque ci ciascuna ciascuno ciò cioè circa coi col come
comunque con contro cosa così cui d da dagli dai dal dall dalla dalle dallo davanti degli dei del dell della delle
dello dentro deve devono di dietro dopo dove dovrebbe due dunque durante e è ebbe ecco ed egli ella entrambi era erano
eravamo ero esse essendo essere essi esso fa fanno fare fatto fin finché fino fra fu fuori furono già giù gli ha hai
hanno ho i il in infatti infine inoltre insieme intanto invece io l la là le lei li lì lo loro lui lungo ma mai me
medesimo meno mentre mi mia mie miei mio modo molta molte molti molto ne né neanche negli nei nel nell nella nelle
nello nemmeno neppure nessun nessuna nessuno niente noi non nondimeno nostra nostre nostri nostro nulla o od ogni
ognuno oltre oppure ora parecchi pare per perché perciò perfino però più piuttosto poca poche pochi poco poi poiché
potrebbe prima proprio può possono pure qua quale quali qualche qualcosa qualcuno qualora qualsiasi qualunque quando
quanta quante quanti quanto quasi quei quegli quel quell quella quelle quelli quello questa queste questi questo qui
quindi s sarà saranno sarebbe se sé sebbene secondo sei sembra sempre senza si sì sia siamo siano siate siete sino
solo soltanto sono sopra soprattutto sotto spesso sta stanno stata state stati stato stava stessa stesse stessi stesso
su sua subito sue sugli sui sul sull sulla sulle sullo suo suoi t tal tale tali talvolta tanta tante tanti tanto te ti
tra tranne tre troppo tu tua tue tuo tuoi tutta tuttavia tutte tutti tutto un un' una uno va vengono verso vi via
viene voi volta volte vostra vostre vostri vostro
""",
    "nl": """
aan aangaande al aldus alhoewel alle alleen allen alles als alsof altijd ander andere anderen anders bepaald beide
behalve ben beneden bij bijna bijvoorbeeld binnen binnenin boven bovendien buiten d'r daar daarbij daardoor daarin
daarmee daarna daarnaast daarom daarop daarvan daarvoor dan dat de deed den der des deze die dien dit doch doen door
dus echter een één eens eerder eerst eerste elk elke en enig enige enkel enkele er erg ergens ervan even eveneens
gedaan geen gehad gelijk genoeg geweest geworden haar had hadden heb hebben hebt heeft heel hele hem hen het hier
hierbij hierin hij hoe hoewel hun iemand iets ieder iedere iedereen ik in indien inmiddels inzake is ja je jezelf jij
jou jouw jullie kan kon konden kunnen kunt laat later liever maar me mede meer meerdere meest men met meteen mij mijn
misschien moest moesten moet moeten mogelijk mogen na naar naast nadat namelijk nee net niet niets niemand nog nogal
nooit nu of ofschoon om omdat omhoog omstreeks omtrent ondanks onder ons onze ook op opnieuw over overigens reeds
rond s samen sedert sinds slechts sommige soms steeds t te tegen tegenover ten tenzij ter terug terwijl thans tijdens
toch toe toen tot totdat tussen u uit uw vaak van vanaf vandaar vanuit vanwege veel vele verder verscheidene via
volgens voor vooraf vooral voordat voorts vrij waar waarbij waardoor waarin waarmee waarom waarop waarvan wanneer want
waren was wat we wegens weinig wel welk welke werd werden wezen wie wiens wij wil wilde worden wordt zal ze zeer zei
zelf zelfs zich zichzelf zij zijn zo zo'n zoals zodat zodra zonder zou zouden zowat zowel zulk zulke zullen zult
""",
    "pt": """
a à acerca adeus agora aí ainda além algo alguém algum alguma algumas alguns ali ambas ambos ante antes ao aos apenas
apesar após aquela aquelas aquele aqueles aqui aquilo as às assim até atrás através bastante bem cada certa certamente
certas certo certos cima com como conforme consigo conta contra contudo cuja cujas cujo cujos da daquela daquele das
de debaixo dela delas dele deles demais dentro depois desde dessa desse desta deste deve devem deverá dever disso disto
diversas diversos diz do dois dos duas durante e é ela elas ele eles em embora enquanto entanto então entre era eram
essa essas esse esses esta está estão estar estas estava estavam este esteja estes esteve estive estou eu faz fazem
fazer fez fim foi foram for fora fosse fossem geral grande há havia houve isso isto já jamais la lá lhe lhes lo logo
longe mais mal mas me mediante meio menos mesma mesmas mesmo mesmos meu meus mim minha minhas muita muitas muito muitos
na nada não naquela naquele nas nela nele nem nenhum nenhuma nessa nesse nesta neste ninguém no nos nós nossa nossas
nosso nossos num numa nunca o onde ora os ou outra outras outro outros para parece parte pela pelas pelo pelos perante
pode podem poderá poderia pois por porém porque porquê portanto pouca poucas pouco poucos primeiro própria próprio
quais qual qualquer quando quanta quantas quanto quantos quase que quê quem quer são se seja sejam sem sempre sendo ser
será serão seria seu seus si sido sim sob sobre somente sou sua suas tal tais também tampouco tanta tantas tanto tão te
tem têm temos tenha tenho ter terá teu teus teve ti tinha tinham tive toda todas todavia todo todos tu tua tuas tudo um
uma umas uns vai vão várias vários vem vez vezes você vocês vos vós
""",
    "sv": """
aldrig all alla allt alltid alltså andra annan annat att av bara behöver bland blev bli blir blivit borde både båda
bör dag de dem den denna dennes deras dess dessa dessutom det detta dig din dina ditt dock du där därefter därför då
efter eftersom ej eller emellan emot en endast enligt er era ett ers eller fall fanns finns fick flera fler flesta
fram framför från får få för före först första genom ges går gör göra gjort ha hade han hans har hela heller henne
hennes hon honom hos hur här i ibland icke igen igenom in inga ingen inget innan inne inom inte ja jag ju just kan
kanske knappt kom kommer kring kunde kunna kunnat lite längre man mellan med medan men mer mera mest mig min mina
mindre minst mitt mittemot mot mycket många måste ned nej nere ni nog nu något någon några när nära nästan också om
omkring ona oss på redan samma samt sedan sig sin sina sitt själv själva ska skall skulle slutligen snart som sådan
sådana sådant så säga säger tack till tills trots två under upp ur ut utan utanför vad var vara varandra varför
varit varje vars vart vem vems verkligen vi vid vidare vilka vilkas vilken vilket vill ville vår våra vårt väl än
ändå ännu är åt över
""",
    "da": """
ad af aldrig alene alle allerede alligevel alt altid altså anden andet andre at bag bare begge blandt blev blevet
blive bliver burde bør da de dem den denne der deres derefter derfor des desuden det dette dig din dine disse dit dog
du efter eftersom egen ej eller ellers en end endnu engang enhver enkelte ens er et f.eks fik fandt find findes flere
fleste foran fordi forbi for fra frem før først få får gennem giver gjorde gjort god gør gøre går ham han hans har
havde have hele heller hen hende hendes her hos hun hvad hvem hver hvilke hvilken hvilket hvis hvor hvordan hvorfor
hvornår i igen igennem ikke imellem imod ind inden indtil ingen intet jeg jer jeres jo kan kom kommer kun kunne lad
langs lidt lige ligesom man mange med mellem men mens mere mest mig min mindre mindst mine mit mod må måske ned nej
netop noget nogen nogle nok nu når nær næsten også om omkring op os over på samme samt selv selvom sig sin sine sit
skal skulle sket snart som stadig stor således så sådan temmelig til tilbage ud uden udover under ved vi via vil ville
vor vore vores være været
""",
    "no": """
aldri all alle allerede alltid alt altså andre annen annet at av bak bare begge ble blant bli blir blitt burde bør både
da de deg dem den denne der dere deres deretter derfor dermed dersom dessuten det dette din dine disse ditt dog du
eller ellers en enda endelig enn ennå er et etter ettersom fikk finnes flere fleste for foran fordi fra fram frem før
først få får gjennom gjorde gjort gjør gjøre går ha hadde ham han hans har hele heller hennes henne her hos hun hva
hvem hver hvert hvilke hvilken hvilket hvis hvor hvordan hvorfor i igjen ikke imidlertid imot ingen inn innen ikkje
intet ja jeg jo kan kanskje kom kommer kun kunne langs lite like litt man mange med meg mellom men mens mer mest mindre
min mine mitt mot mye må måtte ned nei nesten noe noen nok nå når nær også om omkring opp oss over på samme samt seg
selv selvom siden sin sine sitt skal skulle slik slike som så således sånn til tilbake tross under unna uten ut utenfor
var ved vi via videre vil ville vår våre vårt være vært
""",
    "ru": """
а без более больше будет будто будут будем бы был была были было быть в вам вами вас ваш ваша ваше ваши вдруг ведь
весь вместо вне во вокруг вообще вот впрочем времени время все всегда всего всей всем всеми всех всё вся всю вы где
говорит говорят да даже для до должен должна должно должны другая другие другим других другое другой его ее ей ему если
есть еще ещё её ж же за затем зачем здесь и из изза или им именно ими иногда их к как какая какие каким каких какое
какой кем когда кого ком кому конечно кроме кто куда ли либо лишь лучше между меня мне много может могут можно мной
мною мои мой моя моё мы на над надо наиболее нам нами нас наш наша наше наши не него нее ней некоторые некоторых нельзя
нем нему несколько нет неё ни нибудь никогда ним ними них ничего но ну нужно о об обо однако один одна одни одно около
он она они оно опять от ото очень перед по под подобно пока после потом потому почему почти при про просто против раз
разве с сам сама сами само самого самой самом самый свое своего своей своем своим своих свои свой свою своя своё себе
себя сегодня сейчас сказал сказала сквозь снова со собой совсем среди сразу стал стала стали так такая также такие
таким таких такое такой там твой твоя те тебе тебя тем теми теперь тех то тобой того тоже той только том тому тот тою
три тут ты у уж уже хорошо хоть хотя чаще чего чей чем через что чтоб чтобы чуть чье чья эта эти этим этими этих это
этого этой этом этому этот эту я
""",
}
"""Text of white-space separated words, by ISO 639-1 code. English is the longest because it is used most."""
