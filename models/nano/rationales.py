"""Writes rationale-and-critique chats for training: claims in five domains, with a known flaw or with none.

Every chat is made from a sentence pattern, a domain's vocabulary and random numbers. The answer is a function of
those, so that the same question always has the same answer. Nothing here is quoted from another text.
"""

import random

SYSTEM_PROMPTS = [
    "You are MiniCrit. Critique the rationale.",
    "You are MiniCrit, a careful critic of short rationales.",
    "You are a helpful assistant.",
    "Name the flaw, say why, and suggest a fix.",
    "You review reasoning. Be brief and honest.",
]
PREFIXES = ["", "", "", "", "", "", "Critique: ", "Rationale: ", "Critique this: ", "Is this sound? ",
            "Review this: ",
            "Check my reasoning: ", "What do you think? ", "Critique this rationale: ", "My argument: "]
SUFFIXES = ["", "", "", "", "", "", " Is that right?", " Thoughts?", " Any flaw?", " Critique it."]
NUMBER_WORDS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}

# Adjectives that make many kinds of one event.
KINDS = [
    "small", "early", "late", "local", "foreign", "simple", "hard", "easy", "night", "morning", "winter", "summer",
    "northern", "southern", "first-time", "routine", "manual", "automatic", "public", "private", "short", "long",
    "cheap", "large", "quick", "random", "Monday", "Friday", "weekend", "city", "rural", "recent",
]
# Things that may rise and fall together.
FACTORS = [
    "coffee", "sleep", "rain", "umbrellas", "phone use", "traffic", "red cars", "chocolate", "exercise", "noise",
    "tall people", "wages", "crime", "shark sightings", "tea", "screen time", "stress", "pollution", "books", "wine",
]
# A member and its category, for syllogisms.
KINDS_OF_THINGS = [
    ("dog", "animal"), ("rose", "flower"), ("server", "computer"), ("bond", "security"), ("tank", "vehicle"),
    ("nurse", "worker"), ("whale", "mammal"), ("virus", "threat"), ("pilot", "soldier"), ("novel", "book"),
    ("copper wire", "conductor"), ("cat", "mammal"),
]
# A device of chance and two of its results.
CHANCES = [
    ("coin", "heads", "tails"), ("wheel", "red", "black"), ("coin", "tails", "heads"), ("wheel", "black", "red"),
    ("die", "an odd number", "a six"), ("lottery", "no prize", "a prize"), ("dice", "low numbers", "a double six"),
]
# People of whom one case is told.
RELATIVES = [
    "My uncle", "My grandmother", "A friend", "My neighbour", "My aunt", "My boss", "A colleague", "My cousin",
]
# What one person did, how it went, and the lesson that does not follow.
HABITS = [
    ("never slept much", "is healthy", "sleep does not matter"),
    ("drank a lot", "lived long", "alcohol is harmless"), ("never studied", "got rich", "school is useless"),
    ("drove without a belt", "was never hurt", "belts are useless"),
    ("skipped every update", "was never hacked", "updates are pointless"),
    ("bought one coin", "became rich", "coins make you rich"),
    ("ate only meat", "feels great", "vegetables are not needed"), ("took a risk once", "won", "risks always pay"),
]
# Two camps between which there is supposedly nothing.
CAMPS = [
    ("vote for him", "hate your country"), ("back the war", "side with the enemy"),
    ("buy our product", "do not care about safety"), ("work weekends", "are lazy"), ("trust me", "are my enemy"),
    ("eat organic food", "poison yourself"), ("join the strike", "betray us"), ("take the loan", "stay poor"),
]
# Words for copying.
WORDS = (
    "river stone seven market green patrol copper index garden ninety signal doctor paper violet engine north "
    "window server apple forty candle bridge zero falcon harbour silver ticket onion planet carbon letter tunnel "
    "orange magnet ladder twelve shadow butter rocket pencil meadow thunder basket winter cotton hammer lemon "
    "mirror"
).split()

# Each domain: `events` (one, many, past success, past failure, future success) and phrases for each kind of flaw.
DOMAINS = {
    "trading": {
        "events": [("trade", "trades", "won", "lost", "win"),
                   ("swing trade", "swing trades", "made money", "lost money", "make money"),
                   ("short position", "short positions", "paid off", "failed", "pay off"),
                   ("bet on oil", "bets on oil", "paid off", "went wrong", "pay off"),
                   ("earnings call", "earnings calls", "beat the forecast", "missed the forecast",
                   "beat the forecast")],
        "method": ["the breakout rule", "the momentum signal", "my moving-average rule", "the new stop-loss rule",
                   "the pairs strategy"],
        "metric": ["returns", "the win rate", "monthly profit", "the Sharpe ratio"],
        "confounder": "the whole market rose",
        "winners": [("the rich traders I follow", "trade without stops", "traders"),
                    ("the funds still open after ten years", "use leverage", "funds"),
                    ("the top accounts on the leaderboard", "bet on one stock", "accounts")],
        "dilemma": [("we buy today", "we miss the whole rally"), ("I double the position", "I give up on profit"),
                    ("we sell everything", "we lose everything")],
        "anchor": [("the stock", "traded at ${a}", "is cheap at ${b}"),
                   ("the bond", "was priced at {a}", "is a bargain at {b}"),
                   ("the coin", "peaked at ${a}", "must be worth more than ${b}")],
        "sunk": [("${a}k in this position", "hold it"), ("{n} months on this strategy", "keep trading it"),
                 ("${a}k on the data feed", "keep using it")],
        "expert": [("a famous fund manager", "gold will double"), ("a bank's chief economist", "rates will fall"),
                   ("a television analyst", "this stock is a buy")],
        "alarm": [("the fraud filter", "trade", "fraudulent"),
                  ("the crash signal", "week", "going to end in a crash"),
                  ("the insider-trading screen", "account", "guilty")],
        "circular": [("this stock will rise", "its price is going to go up"),
                     ("the strategy is profitable", "it makes money"),
                     ("the market is efficient", "prices are always right")],
        "crowd": [("is buying this coin", "it is a good investment"), ("is selling bonds", "bonds will fall"),
                  ("uses this broker", "it must be safe")],
        "slope": [("we allow one trade without a stop", "the whole desk will go bankrupt"),
                  ("the bank raises rates once", "the market will collapse")],
        "hunch": [("Momentum is up", "we should buy"), ("The chart looks good", "I will go all in"),
                  ("The price fell today", "it is time to sell")],
        "unproven": [("the fund is a fraud", "it is honest"), ("the strategy fails", "it works")],
        "subset": [("the three best months", "the strategy works"),
                   ("the quarter with the highest profit", "the fund is well run"),
                   ("the winning backtests", "the signal is real")],
    },
    "medical": {
        "events": [("patient", "patients", "recovered", "relapsed", "recover"),
                   ("scan", "scans", "came back clear", "came back abnormal", "come back clear"),
                   ("operation", "operations", "went well", "had complications", "go well"),
                   ("vaccination", "vaccinations", "caused no fever", "caused a fever", "cause no fever"),
                   ("blood test", "blood tests", "came back normal", "came back abnormal", "come back normal")],
        "method": ["the new drug", "the breathing exercise", "the low-salt diet", "the herbal tea",
                   "the physiotherapy plan"],
        "metric": ["blood pressure", "the recovery rate", "reported pain", "sleep quality"],
        "confounder": "the flu season ended",
        "winners": [("the survivors we interviewed", "took the herb", "patients"),
                    ("the healthy old people in my town", "drink wine every day", "old people"),
                    ("the patients who came back for a check", "felt better", "patients")],
        "dilemma": [("we operate now", "the patient dies"), ("you take this supplement", "you stay ill"),
                    ("we close the ward", "everyone gets infected")],
        "anchor": [("the patient's pressure", "was {a} at first", "is fine at {b}"),
                   ("the dose", "was {a} mg at first", "should stay close to {b} mg"),
                   ("the waiting time", "was {a} days last year", "is short at {b} days")],
        "sunk": [("{n} months on this therapy", "continue it"), ("${a}k on the scanner", "use it for every patient"),
                 ("{n} years in this trial", "finish it")],
        "expert": [("a well-known surgeon", "the diet cures arthritis"),
                   ("a celebrity doctor", "vitamins prevent cancer"),
                   ("my professor", "the drug has no side effects")],
        "alarm": [("the screening test", "patient", "ill"), ("the rapid test", "visitor", "infected"),
                  ("the cancer marker", "person", "a cancer patient")],
        "circular": [("the drug works", "it is effective"),
                     ("the diagnosis is correct", "the patient has that disease"),
                     ("the diet is healthy", "it is good for you")],
        "crowd": [("takes this supplement", "it must work"), ("avoids that vaccine", "it must be dangerous"),
                  ("recommends the clinic", "it must be the best one")],
        "slope": [("we let one visitor in after hours", "the hospital will lose all control"),
                  ("she takes one painkiller", "she will become an addict")],
        "hunch": [("She looks tired", "she must be anaemic"), ("His cough sounds bad", "it is pneumonia"),
                  ("The ward felt quiet", "the outbreak is over")],
        "unproven": [("the tea is harmful", "it is safe"), ("the therapy is useless", "it helps")],
        "subset": [("the five patients who improved most", "the drug works"),
                   ("the week with the fewest infections", "the policy works"),
                   ("the two studies that agree with us", "the therapy is proven")],
    },
    "cyber": {
        "events": [("phishing test", "phishing tests", "passed", "failed", "pass"),
                   ("patch", "patches", "installed cleanly", "broke a server", "install cleanly"),
                   ("penetration test", "penetration tests", "found nothing", "found a hole", "find nothing"),
                   ("backup", "backups", "restored correctly", "failed to restore", "restore correctly"),
                   ("login alert", "login alerts", "turned out harmless", "turned out to be attacks",
                   "turn out harmless")],
        "method": ["the new firewall rule", "the password policy", "the endpoint agent", "the security training",
                   "the spam filter"],
        "metric": ["the number of incidents", "the click rate", "malware detections", "the response time"],
        "confounder": "attackers moved to another target",
        "winners": [("the companies that recovered from ransomware", "paid the ransom", "companies"),
                    ("the startups that are still running", "never hired a security team", "startups"),
                    ("the hackers who were never caught", "used this tool", "hackers")],
        "dilemma": [("we block all email links", "we get hacked"), ("we buy this product", "we have no security"),
                    ("we ban laptops", "we leak our data")],
        "anchor": [("the vendor", "first asked for ${a}k", "is a good deal at ${b}k"),
                   ("the old system", "had {a} alerts a day", "is quiet at {b}"),
                   ("the first audit", "found {a} bugs", "is safe with only {b}")],
        "sunk": [("${a}k on this firewall", "keep it"), ("{n} months writing our own cipher", "ship it"),
                 ("{n} years on the old system", "keep it running")],
        "expert": [("a famous hacker", "passwords are dead"),
                   ("the vendor's founder", "the product stops every attack"),
                   ("a keynote speaker", "the cloud is always safer")],
        "alarm": [("the intrusion detector", "connection", "an attack"), ("the malware scanner", "file", "malware"),
                  ("the anomaly alert", "user", "an insider threat")],
        "circular": [("the server is secure", "nobody can break into it"),
                     ("the code is safe", "it has no vulnerabilities"),
                     ("this user is trusted", "we trust him")],
        "crowd": [("uses this password manager", "it cannot be broken"), ("runs this plugin", "it must be secure"),
                  ("skips this update", "it is not needed")],
        "slope": [("we give one contractor access", "the whole network will be stolen"),
                  ("we skip one patch", "the company will be destroyed")],
        "hunch": [("The traffic looks odd", "we are under attack"),
                  ("The login came at night", "the account is stolen"), ("The server feels slow", "it has malware")],
        "unproven": [("the server is insecure", "it is secure"), ("the data leaked", "it is safe")],
        "subset": [("the days without an incident", "the network is secure"),
                   ("the three servers that passed", "the fleet is patched"),
                   ("the attacks we blocked", "our defence works")],
    },
    "defense": {
        "events": [("patrol", "patrols", "returned safely", "was attacked", "return safely"),
                   ("test launch", "test launches", "hit the target", "missed the target", "hit the target"),
                   ("supply run", "supply runs", "arrived on time", "arrived late", "arrive on time"),
                   ("drone flight", "drone flights", "came back intact", "crashed", "come back intact"),
                   ("radio check", "radio checks", "succeeded", "failed", "succeed")],
        "method": ["the new escort plan", "the jamming drill", "the night-vision kit", "the decoy plan",
                   "the new route"],
        "metric": ["the number of attacks", "readiness", "the hit rate", "the repair time"],
        "confounder": "the weather turned bad for the enemy",
        "winners": [("the aircraft that came back", "had holes only in the wings", "aircraft"),
                    ("the units that won", "attacked at dawn", "units"),
                    ("the veterans I met", "never wore the vest", "soldiers")],
        "dilemma": [("we strike now", "we lose the war"), ("we buy this radar", "we are defenceless"),
                    ("we hold every outpost", "we surrender the valley")],
        "anchor": [("the first estimate", "was {a} tanks", "should be close to {b}"),
                   ("the last convoy", "took {a} hours", "is fast at {b}"),
                   ("the first bid", "was ${a}m", "is cheap at ${b}m")],
        "sunk": [("${a}m on this vehicle", "finish it"), ("{n} weeks on the siege", "continue it"),
                 ("{n} years on the radar program", "deploy it")],
        "expert": [("a retired general", "the enemy will not attack"), ("a decorated pilot", "the drone is useless"),
                   ("the minister", "the border is safe")],
        "alarm": [("the radar alarm", "contact", "hostile"), ("the mine detector", "signal", "a mine"),
                  ("the threat classifier", "vehicle", "an enemy")],
        "circular": [("the base is safe", "it is well protected"), ("the enemy is weak", "he lacks strength"),
                     ("the plan will succeed", "it is a winning plan")],
        "crowd": [("in the unit takes the river road", "it is the safest road"),
                  ("says the enemy is retreating", "he is"),
                  ("ignores the siren", "it must be a false alarm")],
        "slope": [("we give up one outpost", "the whole country will fall"),
                  ("one soldier skips a drill", "the army will lose all discipline")],
        "hunch": [("The village is quiet", "an ambush is coming"), ("The radio went silent", "the enemy has left"),
                  ("The lights went out", "the attack begins tonight")],
        "unproven": [("the ally is a spy", "he is loyal"), ("the road is mined", "it is clear")],
        "subset": [("the two best exercises", "the unit is ready"), ("the sunny-day tests", "the sensor works"),
                   ("the hits", "the missile is accurate")],
    },
    "general": {
        "events": [("flight", "flights", "left on time", "left late", "leave on time"),
                   ("interview", "interviews", "led to an offer", "ended in rejection", "lead to an offer"),
                   ("customer", "customers", "liked the demo", "hated the demo", "like the demo"),
                   ("match", "matches", "ended in a win", "ended in a loss", "end in a win"),
                   ("release", "releases", "shipped without bugs", "shipped with bugs", "ship without bugs")],
        "method": ["the new logo", "the morning run", "the four-day week", "the reading app",
                   "the new checkout page"],
        "metric": ["sales", "productivity", "test scores", "customer satisfaction"],
        "confounder": "it was the holiday season",
        "winners": [("the famous founders", "dropped out of college", "founders"),
                    ("the bestselling authors I read", "write at night", "authors"),
                    ("the old buildings still standing", "were built with more care", "buildings")],
        "dilemma": [("we ship on Friday", "the company fails"), ("you agree with me", "you are against progress"),
                    ("we cut the price", "we lose every customer")],
        "anchor": [("the house", "was listed at ${a}k", "is a steal at ${b}k"),
                   ("the jacket", "used to cost ${a}", "is cheap at ${b}"),
                   ("the first quote", "was ${a}k", "is fair at ${b}k")],
        "sunk": [("${a}k on this project", "finish it"), ("{n} years on this degree", "complete it"),
                 ("{n} months on the rewrite", "ship it")],
        "expert": [("a famous actor", "this phone is the best"), ("my manager", "the deadline is realistic"),
                   ("a Nobel winner in physics", "the economy will shrink")],
        "alarm": [("the smoke detector", "alarm", "a fire"), ("the plagiarism checker", "essay", "copied"),
                  ("the lie detector", "person", "a liar")],
        "circular": [("the book is true", "it says so itself"), ("he is honest", "he never lies"),
                     ("the rule is fair", "it treats people justly")],
        "crowd": [("bought this car", "it is the best car"), ("believes the rumour", "it is true"),
                  ("uses this framework", "it is right for us")],
        "slope": [("we allow one day of remote work", "nobody will ever come to the office"),
                  ("he skips one class", "he will never graduate")],
        "hunch": [("He was late today", "he is lazy"), ("The demo felt smooth", "the product is ready"),
                  ("She smiled at the meeting", "she agrees with the plan")],
        "unproven": [("ghosts do not exist", "they do"), ("the plan is bad", "it is good")],
        "subset": [("the five-star reviews", "the product is great"),
                   ("the three happy customers", "everyone likes it"),
                   ("the best quarter", "the business is healthy")],
    },
}

# Flaw: its patterns (rationale, why) and its fixes. Braces name slots filled by `fill_slots`.
FLAWS = {
    "small sample": (
        [("Last {n} {many} {won}, so I'm {p}% sure the {nth} will.",
          "these cases are far too few to support {p}% confidence, and past luck does not carry over to the next one."),
         ("My last {n} {many} {won}, so I am {p}% sure of the next one.",
          "these cases are far too few to support {p}% confidence, and past luck does not carry over to the next one."),
         ("The last {n} {many} {won}, so the next one will {win}.",
          "these cases are far too few to predict the next one; a run that short is easily luck."),
         ("{n} out of {n} {many} {won} with {method}, so it works.",
          "these cases are too few: a short run can easily be luck."),
         ("We tried {method} on {n} {many} and all {won}, so it always works.",
          "these cases are too few: a short run can easily be luck."),
         ("{method} is proven: it was right {n} times in a row.",
          "being right so few times is too little to prove anything; chance can do that."),
         ("I won {n} times in a row with {method}, so I will win again.",
          "such a run is too short to tell skill from luck."),
         ("{n} {many} {won}. That is enough to be {p}% confident in {method}.",
          "these cases are far too few to support {p}% confidence."),
         ("Based on {n} {many}, {method} has a {p}% success rate.",
          "a rate from so few cases is very uncertain."),
         ("I asked {n} people and most agreed, so most people agree.",
          "these people are too few to speak for everyone."),
         ("Our first {n} {many} {won}, so all the others will too.",
          "these cases are too few to speak for all the others."),
         ("{n} of our {many} {won}, so the plan is sound.",
          "these cases are far too few to support the plan.")],
        ["Collect at least 30 results and report an interval.",
         "Wait for a larger sample before naming a probability."]),
    "gambler's fallacy": (
        [("The last {n} {many} {lost}, so the next one is due to {win}.",
          "such events are independent, so past failures do not make a success more likely."),
         ("We had {n} {many} in a row that {lost}, so our luck must turn now.",
          "such events are independent, so past failures do not make a success more likely."),
         ("After {n} bad {many}, a good one is overdue.",
          "nothing is overdue: past results do not change the odds of the next one."),
         ("It came up red {n} times, so black is due.",
          "each spin is independent, so past results do not change the odds."),
         ("{n} {many} {lost} already. The odds say the next will {win}.",
          "such events are independent, so past failures do not make a success more likely."),
         ("It cannot go wrong again after {n} failures.",
          "nothing is overdue: past results do not change the odds of the next one."),
         ("The {device} showed {side_a} {n} times, so {side_b} is next.",
          "each try is independent, so past results do not change the odds of the next one."),
         ("I got {side_a} {n} times in a row; the {device} must give {side_b} soon.",
          "each try is independent, so past results do not change the odds of the next one.")],
        ["Estimate the next result from the long-run rate.", "Treat each case on its own odds."]),
    "survivorship bias": (
        [("All {winners} {trait}, so that is the way to succeed.",
          "only the survivors are counted; those that did the same and failed are missing."),
         ("{winners} {trait}, so doing that leads to success.",
          "only the survivors are counted; those that did the same and failed are missing."),
         ("I looked at {winners} and {p}% of them {trait}, so it helps.",
          "those that failed are not in the sample, so there is nothing to compare with."),
         ("Look at {winners}: they {trait}. You should too.",
          "only the survivors are counted; those that did the same and failed are missing."),
         ("The ones that made it all {trait}, so it must help.",
          "only the survivors are counted; those that did the same and failed are missing."),
         ("The {many} that lasted were all done with {method}, so it makes things last.",
          "only the survivors are counted; those that did the same and failed are missing."),
         ("Every rich person I know {habit}, so that makes you rich.",
          "only the survivors are counted; those that did the same and failed are missing.")],
        ["Include those that failed in the sample.",
         "Compare winners and losers before drawing a conclusion."]),
    "correlation as causation": (
        [("{metric} improved by {p}% after {method} came in, so {method} caused it.",
          "coming after is not being caused by; something else could explain the change as well."),
         ("{metric} and {method} are correlated, so {method} drives {metric}.",
          "a correlation has no direction, and a third factor could move both."),
         ("Since we started with {method}, {metric} went up {p}%. It is clearly the cause.",
          "coming after is not being caused by; something else could explain the change as well."),
         ("People who use {method} have better {metric}, so it improves {metric}.",
          "people who use it may differ in other ways, so the link need not be a cause."),
         ("{metric} rose right after {method} started, so {method} made it happen.",
          "coming after is not being caused by; something else could explain the change as well."),
         ("{factor_a} and {factor_b} go up at the same time, so {factor_a} causes {factor_b}.",
          "two things can move together without one causing the other; a third factor could drive both."),
         ("Places with more {factor_a} have more {factor_b}, so {factor_a} leads to {factor_b}.",
          "two things can move together without one causing the other; a third factor could drive both.")],
        ["Test it with a control group, or rule out other causes.", "Vary one factor at a time and compare."]),
    "false dichotomy": (
        [("Either {option_a} or {option_b}.", "only two options are named, but there are others in between."),
         ("If we do not act and {option_a}, then {option_b}. There is no other way.",
          "it claims there is no other way without looking for one."),
         ("There are two choices: {option_a}, or {option_b}.",
         "only two options are named, but there are others in between."),
         ("You are either with us or against us.",
          "only two options are named, but there are others in between."),
         ("We must choose: {option_a} or {option_b}.",
          "only two options are named, but there are others in between."),
         ("If it is not {method}, then nothing can save us.",
          "it claims there is no other way without looking for one."),
         ("Either you {camp_a} or you {camp_b}.",
          "only two options are named, but there are others in between."),
         ("If you do not {camp_a}, you {camp_b}.",
          "only two options are named, but there are others in between.")],
        ["List at least one more option and compare them.", "Ask what a partial or later step would do."]),
    "anchoring": (
        [("{anchor_a}, so {anchor_b}.",
         "the first number is only an anchor; it says nothing about the right value now."),
         ("Because {anchor_a}, {anchor_b}.",
         "the first number is only an anchor; it says nothing about the right value now."),
         ("{anchor_a}. Compared with that, {anchor_b}.",
          "the first number is only an anchor; it says nothing about the right value now."),
         ("The first number I heard was {a}, so {b} sounds right.",
          "the first number heard is only an anchor and need not be relevant.")],
        ["Estimate the value from current data before looking at the old number.",
         "Use several independent reference points."]),
    "overconfidence": (
        [("I am {p100}% certain {method} will work; I have a good feeling.",
          "a feeling is no evidence, and such certainty leaves no room for error."),
         ("There is no way {method} can fail.", "it leaves no room for error and gives no evidence."),
         ("I just know the next {one} will {win}.", "it gives no evidence, only a feeling of certainty."),
         ("{method} cannot go wrong, I guarantee it.", "it leaves no room for error and gives no evidence."),
         ("I am {p100}% sure about this, trust me.",
          "such certainty leaves no room for error, and no evidence is given."),
         ("{method} will definitely work.",
          "it leaves no room for error and gives no evidence."),
         ("Nothing can go wrong with the next {one}.",
          "it leaves no room for error and gives no evidence."),
         ("{method} will succeed, no doubt at all.",
          "it leaves no room for error and gives no evidence."),
         ("It is impossible that the next {one} will not {win}.",
          "it leaves no room for error and gives no evidence.")],
        ["State a probability below 90% and what would change your mind.",
         "Check how often such feelings were right before."]),
    "missing control": (
        [("We gave {method} to everyone and {metric} improved by {p}%, so it works.",
          "there is no control group, so the change may have come anyway."),
         ("All {big} {many} got {method} and {metric} improved, so it is effective.",
          "everyone got it, so there is no control group to compare with."),
         ("{p}% of those who used {method} did well, so it is effective.",
          "without a control group we do not know how many would have done well anyway."),
         ("Everyone who got {method} did better after a month, so it works.",
          "there is no control group, so they may have done better anyway."),
         ("We switched all {many} to {method} and {metric} went up, so we keep it.",
          "everything was switched, so there is no control group to compare with.")],
        ["Add a control group that does without it.", "Compare with a similar group chosen at random."]),
    "base-rate neglect": (
        [("{alarm} is {p90}% accurate and it fired, so this {case} is {p90}% likely to be {state}.",
          "it ignores how rare that is; with a low base rate most alarms are false."),
         ("{alarm} flagged this {case} and is right {p90}% of the time, so it is surely {state}.",
          "it ignores how rare that is; with a low base rate most alarms are false."),
         ("{alarm} says this {case} is {state}, and it errs only {p5}% of the time, so we can be sure.",
          "even a small error rate on many harmless cases gives more false alarms than true ones."),
         ("A positive result from {alarm} means a {p90}% chance of being {state}.",
          "it ignores how rare that is; with a low base rate most alarms are false."),
         ("The test is {p90}% accurate and positive, so I surely have the disease.",
          "it ignores how rare that is; with a low base rate most alarms are false.")],
        ["Combine the accuracy with the base rate by Bayes' rule.",
         "Ask how many of 1,000 cases are real, then count the false alarms."]),
    "cherry-picking": (
        [("Look at {subset}: {claim}.", "it shows only a favourable part and leaves out the rest of the data."),
         ("{subset} show that {claim}.", "it shows only a favourable part and leaves out the rest of the data."),
         ("I left out the bad results, and {subset} prove that {claim}.",
         "the bad results were left out, so the rest proves nothing."),
         ("If you only count {subset}, {claim}.",
          "it shows only a favourable part and leaves out the rest of the data."),
         ("Forget the other data; {subset} tell us that {claim}.",
          "the other data were left out, so the rest proves nothing.")],
        ["Report all the results, also the bad ones.", "Fix the selection rule before looking at the data."]),
    "circular reasoning": (
        [("{circ_a} because {circ_b}.", "the reason only repeats the claim in other words."),
         ("We know that {circ_a}, since {circ_b}.", "the reason only repeats the claim in other words."),
         ("{circ_b}, and that is why {circ_a}.",
          "the reason only repeats the claim in other words."),
         ("{circ_a}. Why? Because {circ_b}.",
          "the reason only repeats the claim in other words."),
         ("He is right because he is never wrong.",
          "the reason only repeats the claim in other words."),
         ("{relative} can be trusted: the proof is that nothing {relative_low} says can be doubted.",
          "the claim is used to support itself.")],
        ["Give a reason that does not assume the claim.", "Name evidence that could have turned out otherwise."]),
    "sunk cost": (
        [("We already spent {sunk}, so we must {go_on}.",
         "what is already spent is gone either way; only future costs and gains count."),
         ("I have put {sunk}; it would be a waste not to {go_on}.",
         "what is already spent is gone either way; only future costs and gains count."),
         ("After {sunk}, stopping now makes no sense, so we {go_on}.",
         "what is already spent is gone either way; only future costs and gains count."),
         ("{sunk} are already invested, so we cannot stop now.",
          "what is already spent is gone either way; only future costs and gains count."),
         ("We have come too far to quit: {sunk} so far.",
          "what is already spent is gone either way; only future costs and gains count."),
         ("I have already paid for {many} until next year, so I must go on.",
          "what is already spent is gone either way; only future costs and gains count."),
         ("We invested so much in {method} that we have to keep it.",
          "what is already spent is gone either way; only future costs and gains count.")],
        ["Decide as if you started today.", "Compare only the costs and gains that are still to come."]),
    "hasty generalisation": (
        [("One {one} {lost}, so all {many} are like that.", "one case says little about all of them."),
         ("My neighbour had a bad {one}, so {many} are never good.", "one story says little about all of them."),
         ("I saw one {one} that {won}, so every {one} will.", "one case says little about all of them."),
         ("I met one rude person there, so they are all rude.",
          "one case says little about all of them."),
         ("My first {one} {lost}, so {many} are a bad idea.",
          "one case says little about all of them."),
         ("{relative} {habit} and {fate}, so {lesson}.",
          "one case says little about people in general."),
         ("I know someone who {habit} and {fate}. So {lesson}.",
          "one case says little about people in general.")],
        ["Look at a random sample.", "Ask how often it happens, not whether it happened once."]),
    "appeal to authority": (
        [("{expert} says {said}, so it is true.", "even an expert may be wrong, and no evidence is given."),
         ("It must be true that {said}: {expert} said so.", "even an expert may be wrong, and no evidence is given."),
         ("{said} because {expert} believes it.", "even an expert may be wrong, and no evidence is given."),
         ("{expert} told us that {said}. That settles it.",
          "even an expert may be wrong, and no evidence is given."),
         ("We should believe that {said}, because {expert} is famous.",
          "being famous is no evidence for the claim."),
         ("I read that {expert} believes {said}, so I believe it too.",
          "even an expert may be wrong, and no evidence is given."),
         ("On the news {expert} claimed that {said}, so it must be right.",
          "even an expert may be wrong, and no evidence is given.")],
        ["Ask for the evidence behind the statement.", "Check what independent sources find."]),
    "appeal to popularity": (
        [("Everyone {crowd}, so {so_crowd}.", "many people doing it does not make it right."),
         ("Everybody I know {crowd}. Clearly {so_crowd}.", "many people doing it does not make it right."),
         ("Most people think so, so it must be true.",
          "many people believing it does not make it right."),
         ("Millions cannot be wrong: everyone {crowd}.",
          "many people doing it does not make it right."),
         ("All my friends are doing it, so I should do it as well.",
          "many people doing it does not make it right."),
         ("The whole office {crowd}, so I will too.",
          "many people doing it does not make it right.")],
        ["Judge it on evidence, not on how many follow it.",
         "Ask why people do it, and whether that fits your case."]),
    "weak evidence": (
        [("{hunch}, so {act}.", "a single impression is weak evidence; other explanations fit as well."),
         ("{act} because {hunch_low}.", "a single impression is weak evidence; other explanations fit as well."),
         ("{hunch} and my gut agrees: {act}.", "an impression and a gut feeling are weak evidence."),
         ("I have a feeling that {act}.",
          "a feeling is weak evidence; nothing supports the claim."),
         ("{hunch}. That is all I need to know: {act}.",
          "a single impression is weak evidence; other explanations fit as well.")],
        ["Look for evidence that could prove it wrong.", "Gather data before acting on an impression."]),
    "appeal to ignorance": (
        [("Nobody has proved that {unproven}, so {proven}.", "a missing proof is not a proof of the opposite."),
         ("There is no evidence that {unproven}. Therefore {proven}.",
         "a missing proof is not a proof of the opposite."),
         ("You cannot show that {unproven}, so {proven}.",
          "a missing proof is not a proof of the opposite."),
         ("Since no one has found a problem, there is none.",
          "a missing proof is not a proof of the opposite."),
         ("I have seen no proof against {method}, so it works.",
          "a missing proof is not a proof of the opposite."),
         ("Nobody noticed any trouble, so there is no trouble.",
          "a missing proof is not a proof of the opposite.")],
        ["Look for evidence for the claim itself.", "Say that it is unknown until it is tested."]),
    "slippery slope": (
        [("If {first_step}, {disaster}.",
         "one step does not lead to the extreme without a reason for each step between."),
         ("Never: once {first_step}, {disaster}.",
         "one step does not lead to the extreme without a reason for each step between."),
         ("If we let this happen, {disaster}.",
          "one step does not lead to the extreme without a reason for each step between."),
         ("First {first_step}, and before you know it {disaster}.",
          "one step does not lead to the extreme without a reason for each step between.")],
        ["Show how likely each step is.", "Set a limit that stops the chain."]),
}

VALID = [
    ("In a randomised test with {big} {many}, {method} beat the control by {p5} points (p = 0.00{p5}), "
     "so it probably helps.",
     "the sample is large, chosen at random and compared with a control, and the claim is hedged."),
    ("{big} {many} were split at random; with {method} {p}% did well, without it {q}%. "
     "I think it helps, with about 80% confidence.",
     "it compares two random groups of a large sample and states its uncertainty."),
    ("Across {big} past {many}, {p}% {won}, so I expect roughly {p}% of the next hundred to do so if nothing changes.",
     "it uses a long-run rate and names its assumption."),
    ("{n} independent teams repeated the test of {method} on {big} {many} each and found the same, "
     "so I am fairly confident.",
     "the result was repeated by independent teams on large samples, and the claim is hedged."),
    ("Only {n} {many} {won} so far, so it is too early to say whether {method} works.",
     "it admits that the cases are too few and draws no strong conclusion."),
    ("{metric} improved by {p}% after {method} came in, but {confounder} too, so the cause is still unclear.",
     "it names another possible cause and does not claim more than the data show."),
    ("{alarm} fired, but such cases are rare, so this {case} is probably not {state}; we will check it first.",
     "it takes the base rate into account and checks before acting."),
    ("We spent {sunk}, but that money and time are gone; future costs exceed the gains, so we stop.",
     "it ignores what is already spent and weighs only what is to come."),
    ("{expert} says {said}, but I found no data for it, so I leave it open.",
     "it asks for evidence instead of trusting a name, and leaves the question open."),
    ("All {many} in the log were checked, and none {lost}, so none of the logged {many} {lost}.",
     "the conclusion follows from a complete check and goes no further than it."),
    ("We compared {method} with a control group of {big} {many}; {metric} improved by {p5}% more, so it may help.",
     "it uses a large control group and claims no more than the data show."),
    ("{method} worked in {n} {many}, which is a small sample, so I am only 60% confident.",
     "it admits the small sample and keeps its confidence low."),
    ("I looked at all {big} {many}, the good and the bad ones: {p}% {won}. That is my estimate for the next one.",
     "it uses all the data, good and bad, and estimates from the rate."),
    ("The next {one} will probably {win}, since {p}% of {big} earlier ones did; but I may well be wrong.",
     "it estimates from the rate in many cases and states that it may be wrong."),
    ("Every {one} in this list was checked by hand, and this one is on the list, so this one was checked.",
     "the conclusion follows from its premises."),
    ("Option one costs ${b}k and option two costs ${a}k for the same result, so option one is cheaper.",
     "the conclusion follows from the two numbers."),
    ("Every {member} is a {category}. This is a {member}, so it is a {category}.",
    "the conclusion follows from its premises."),
    ("No {member} is missing from the list, and this {category} is not on it, so this {category} is not a {member}.",
     "the conclusion follows from its premises."),
    ("A study of {big} people with a control group saw {p5}% fewer cases, so it could help.",
     "the study is large and has a control group, and the claim is hedged."),
    ("It happened on {p5}% of {big} days, so my estimate for tomorrow is {p5}%.",
     "it estimates from the rate in many cases."),
    ("{n} {many} are not enough to judge, so I will collect more data first.",
     "it admits that the cases are too few and waits for more data."),
    ("{factor_a} and {factor_b} go up together, but that alone does not show that one causes the other.",
     "it does not take a correlation for a cause."),
    ("The {device} showed {side_a} {n} times, but the next try has the same odds as ever.",
     "it treats each try as independent."),
]

SHORT_CHATS = [
    (["Hi", "Hello", "Hey", "Hi there", "Good morning", "Good evening", "hello!", "Hey there"],
     "Hello! Give me a short rationale and I will look for its flaw."),
    (["Who are you?", "What are you?", "Tell me about yourself", "What is your name?", "who are you",
    "Are you a person?",
      "Introduce yourself", "What model are you?", "Are you ChatGPT?", "Are you a large language model?"],
     "I am a small demonstration model of 3.8 million parameters built into minicrit. I critique short rationales. "
     "I know very little else and I am often wrong."),
    (["What can you do?", "How can you help me?", "What do you do?", "Help", "help me", "How do I use you?"],
     "Give me a short rationale, such as a claim and its reason. I name the flaw, say why, and suggest a fix."),
    (["Thanks", "Thank you", "Thanks a lot", "thank you!", "Great, thanks"], "You are welcome."),
    (["Bye", "Goodbye", "See you", "bye!"], "Goodbye!"),
    (["How big are you?", "How many parameters do you have?", "What size are you?"],
     "I have 3.8 million parameters, which is very small."),
    (["Are you always right?", "Can I trust you?", "How accurate are you?", "Are you reliable?"],
     "No. I am a very small demonstration model and I am often wrong. Check what I say."),
]
OFF_TOPIC = ["What is the capital of {x}?", "Write a poem about {x}.", "Tell me a joke about {x}.",
             "Translate {x} into French.",
             "How do I cook {x}?", "Who invented {x}?", "Write a program about {x}.", "Explain {x} to me.",
             "What is {x}?",
             "Summarise a book about {x}.", "What is {a} + {b}?", "What is {a} times {b}?", "What time is it?",
             "What is the weather in {x}?"]
TOPICS = ["France", "rain", "tea", "the moon", "gravity", "bread", "music", "Python", "the sea", "history", "a cat",
          "chess",
          "paper", "Japan", "love", "winter", "the internet", "rice", "a bicycle", "mathematics"]
OFF_TOPIC_ANSWER = ("I can't help with that. I am a small demonstration model and only critique short rationales. "
                    "Give me a claim and its reason.")


def ordinal(n):
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"


def fill_slots(r, domain):
    """One value for every slot, all from one domain."""
    words = DOMAINS[domain]
    one, many, won, lost, win = r.choice(words["events"])
    if r.random() < 0.5:
        kind = r.choice(KINDS)
        one, many = f"{kind} {one}", f"{kind} {many}"
    n = r.choice([2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12])
    number = NUMBER_WORDS[n] if n in NUMBER_WORDS and r.random() < 0.3 else str(n)
    low, high = sorted(r.sample(range(20, 400, 5), 2))
    numbers = {"a": high, "b": low, "n": number}
    winners, trait, group = r.choice(words["winners"])
    option_a, option_b = r.choice(words["dilemma"])
    thing, was, now = r.choice(words["anchor"])
    sunk, go_on = r.choice(words["sunk"])
    expert, said = r.choice(words["expert"])
    alarm, case, state = r.choice(words["alarm"])
    circ_a, circ_b = r.choice(words["circular"])
    crowd, so_crowd = r.choice(words["crowd"])
    first_step, disaster = r.choice(words["slope"])
    subset, claim = r.choice(words["subset"])
    hunch, act = r.choice(words["hunch"])
    factor_a, factor_b = r.sample(FACTORS, 2)
    member, category = r.choice(KINDS_OF_THINGS)
    device, side_a, side_b = r.choice(CHANCES)
    habit, fate, lesson = r.choice(HABITS)
    camp_a, camp_b = r.choice(CAMPS)
    relative = r.choice(RELATIVES)
    unproven, proven = r.choice(words["unproven"])
    p = r.choice([60, 65, 70, 75, 80, 85, 90, 90, 95, 95, 97, 99])
    return {
        "one": one, "many": many, "a": high, "b": low, "won": won, "lost": lost, "win": win, "n": number,
        "nth": ordinal(n + 1), "p": p,
        "q": p - r.choice([8, 12, 15, 20]), "p100": r.choice([99, 100, 100, 110]),
        "p90": r.choice([90, 92, 95, 98, 99]),
        "p5": r.randrange(2, 10), "big": r.choice([200, 240, 320, 400, 500, 650, 800, 1000, 1200, 2000, 5000]),
        "method": r.choice(words["method"]), "metric": r.choice(words["metric"]), "confounder": words["confounder"],
        "winners": winners, "trait": trait, "group": group, "option_a": option_a, "option_b": option_b,
        "anchor_a": f"{thing} {was}".format(**numbers), "anchor_b": f"it {now}".format(**numbers),
        "sunk": sunk.format(**numbers), "go_on": go_on, "expert": expert, "said": said, "alarm": alarm, "case": case,
        "state": state, "circ_a": circ_a, "circ_b": circ_b, "crowd": crowd, "so_crowd": so_crowd,
        "first_step": first_step,
        "disaster": disaster, "subset": subset, "claim": claim, "hunch": hunch,
        "hunch_low": hunch[:1].lower() + hunch[1:], "act": act, "unproven": unproven, "proven": proven,
        "factor_a": factor_a, "factor_b": factor_b, "member": member, "category": category, "device": device,
        "side_a": side_a, "side_b": side_b, "relative": relative, "relative_low": relative[:1].lower() + relative[1:],
        "habit": habit, "fate": fate, "lesson": lesson,
        "camp_a": camp_a, "camp_b": camp_b}


def capitalise(text):
    return text[:1].upper() + text[1:]


def vary(r, text):
    """Small changes of surface: prefix, suffix, case, the connecting word, the last full stop."""
    if ", so " in text and r.random() < 0.2:
        text = text.replace(", so ", r.choice([", therefore ", ", hence ", ". So ", ", which means "]), 1)
    if r.random() < 0.15:
        text = text[:1].lower() + text[1:]
    if r.random() < 0.15:
        text = text.rstrip(".")
    suffix = r.choice(SUFFIXES)
    if suffix and text[-1:] != ".":
        text += "."
    return r.choice(PREFIXES) + text + suffix


def confidence(flaw):
    if flaw in ("small sample", "gambler's fallacy"):
        return "0.9"
    return {"sunk cost": "0.9", "circular reasoning": "0.9", "overconfidence": "0.8"}.get(flaw, "0.85")


def critique(r):
    """One rationale and its critique."""
    slots = fill_slots(r, r.choice(list(DOMAINS)))
    if r.random() < 0.25:
        claim, why = r.choice(VALID)
        answer = "Verdict: valid\nWhy: " + capitalise(why.format(**slots)) + "\nConfidence: 0.8"
    else:
        flaw = r.choice(list(FLAWS) + ["small sample"])  # the commonest question gets a double share
        patterns, fixes = FLAWS[flaw]
        index = r.randrange(len(patterns))
        claim, why = patterns[index]
        answer = (f"Verdict: flawed\nFlaw: {flaw}\nWhy: {capitalise(why.format(**slots))}\n"
                  f"Fix: {fixes[index % len(fixes)].format(**slots)}\nConfidence: {confidence(flaw)}")
    return vary(r, capitalise(claim.format(**slots))), answer


def small_talk(r):
    if r.random() < 0.35:
        question = r.choice(OFF_TOPIC).format(x=r.choice(TOPICS), a=r.randrange(2, 99), b=r.randrange(2, 99))
        return question, OFF_TOPIC_ANSWER
    questions, answer = r.choice(SHORT_CHATS)
    question = r.choice(questions)
    return (question.rstrip("?!.") if r.random() < 0.2 else question), answer


def repetition(r):
    """Random words to say again: practice in copying from the question."""
    words = " ".join(r.choice([r.choice(WORDS), str(r.randrange(1000))]) for _ in range(r.randrange(2, 9)))
    return r.choice(["Repeat: ", "Say this again: ", "Repeat after me: "]) + words, words


def chat(r):
    """One conversation as messages: mostly one critique, sometimes two, sometimes with a system prompt."""
    turn = r.choices([critique, small_talk, repetition], [82, 9, 9])[0]
    turns = [turn(r)] + ([critique(r)] if r.random() < 0.12 else [])
    messages = []
    if r.random() < 0.2:
        messages.append({"role": "system", "content": r.choice(SYSTEM_PROMPTS)})
    for question, answer in turns:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return messages


def chats(seed):
    """An endless stream of chats."""
    r = random.Random(seed)
    while True:
        yield chat(r)
