"""The words by which replies announce a choice, in the languages that models answer in.

These are closed lists on purpose: a phrase that is not here announces nothing, so that "the worst option", "most people's
choice" and "I refuse to pick" need no rules of their own. Each constant is a regular expression for use with `re.VERBOSE`
off and `re.IGNORECASE` on; a blank in it stands for one blank of a collapsed text.
"""


def _any(*phrases: str) -> str:
    """An alternation of phrases, some of which are alternations already."""
    return f"(?:{'|'.join(phrases)})"


NOUNS = _any(
    "final|correct|äntwert|жавоб|উত্তৰ|उत्तरः|tubag|karabo|jawaab|jawaabtu|deebii|yankho|svara|正答|本题答案|erantzun|përgjigja|отговорът|одговор|răspuns|kurjawab|saqetdim|თქვენი პასუხი|jawabanku|pilihanku|jawapan saya|ihe ngọwa|karbu",
    "answers|verdict|label|prediction|output|outcome|letra|lettera|lettre|buchstabe|буква|svarmulighed|svarsalternativ",
    "teisingas atsakymas|tweġiba|responsum|жооп|җавап|jogap|جاۋاب|პასუხია|պատասխան|ҷавоб|хариулт нь|ځواب|وەڵام|جواب آهي|जवाफ|উত্তরটি|ଉତ୍ତର",
    "ಉತ್ತರ|ഉത്തരം|ஜவாப்|wangsulan|amsata|መልሴ|mhinduro|igisubizo|valiny|tontu|回复|回覆|보기|şıkkı|chaguo|বিকল্প|វិជ្ជមាន|ចម្លើយគឺ|အဖြေမှာ",
    "ຄໍາຕອບ|хариу|wybrana odpowiedź|risposta scelta|választott|kies|karar|kararım|rozhodnutí|beslut|beslutning|päätös|decyzja|hotărârea",
    "answer|ans|choice|option|selection|selected|chosen|response|reply|letter|pick|preference|decision|vote|conclusion",
    "solution|judge?ment|position|stance|opinion|view|result|preferred",
    "antwort|auswahl|wahl|entscheidung|lösung|ergebnis|réponse|reponse|choix|décision|sélection",
    "respuesta|elección|opción|opcion|selección|decisión|alternativa|resposta|escolha|opção|opcao|decisão",
    "risposta|scelta|opzione|decisione|antwoord|keuze|optie|svaret|svar|valget|valg|valet|val|alternativ|alternativet",
    "vastaukseni|vastaus|valintani|valinta|vaihtoehto|odpowiedź|odpowiedz|wybór|opcja|odpověď|odpoveď|odpoved|volba",
    "možnost|možnosť|válaszom|válasz|választás|választásom|răspunsul|răspuns|raspunsul|raspuns|opțiunea|alegerea",
    "cevabım|cevap|yanıtım|yanıt|yanit|seçenek|seçimim|seçim|tercihim|απάντησή|απάντηση|επιλογή",
    "ответ|выбор|вариант|решение|відповідь|вибір|варіант|отговор|избор|адказ|odgovor|izbor|одговор",
    "الإجابة|الاجابة|إجابة|اجابة|إجابتي|اجابتي|الجواب|جواب|جوابي|الخيار|خياري|اختياري|اختيار|پاسخ|گزینه|انتخاب|جواب",
    "התשובה|תשובה|תשובתי|הבחירה|בחירה|הבחירה שלי|האפשרות|אפשרות|उत्तर|जवाब|विकल्प|উত্তর|উত্তরঃ|பதில்|விடை|సమాధానం|జవాబు",
    "જવાબ|ಉತ್ತರ|ഉത്തരം|ਜਵਾਬ|ਉੱਤਰ|පිළිතුර|คำตอบ|ตัวเลือก|ข้อ|đáp án|trả lời|câu trả lời|lựa chọn|phương án",
    "jawaban|jawapan|pilihan|opsi|sagot|jibu|jawabu|idahun|ìdáhùn|idáhùn|amsa|azịza|impendulo|መልስ|përgjigja|përgjigje",
    "vastus|atsakymas|atbilde|erantzuna|svarið|freagra|ateb|respondo|პასუხი|պատասխան|պատասխանը|жауап|javob|cavab|хариулт",
    "စာဖြေ|အဖြေ|ចម្លើយ|ຄຳຕອບ|答案|回答|答复|答覆|答|选择|選擇|选项|選項|决定|答え|解答|選択肢|選択|正解|결론",
    "정답|답변|대답|답|선택지|선택|opció|elecció",
)
"""What a choice is called, before a colon or a copula."""

OPTION = _any(
    "odpowiedź|odpowiedzi|odpoveď|odpověď|válasz|svar|vastaus|cevap|απάντηση|jawaban|câu|답|정답|答案",
    "lettre|lettera|letra|buchstabe|буква|alternativa|可能|variantini|vastausvaihtoehto|möglichkeit|mulighed|možnosť|opcija|opciju|opciu",
    "chaguo|آپشن|پर्याय|पर्याय|پاسخ|বিকল্প|보기|ข้อที่|ជម្រើស|opsyen|opción de respuesta|proposition|kijelentés|lehetőség",
    "option|answer|choice|letter|criterion|statement|alternative|opzione|opción|opcion|opção|opcao|optie|opcja|opcję",
    "antwort|réponse|respuesta|resposta|risposta|antwoord|alternativ|alternativet|variantă|varianta|opțiunea|možnost",
    "вариант|вариант ответа|ответ|варіант|الخيار|گزینه|אפשרות|विकल्प|ตัวเลือก|ข้อ|đáp án|phương án|lựa chọn|opsi|pilihan",
    "jawaban|选项|選項|選択肢|선택지|vaihtoehto|vaihtoehdon|επιλογή|seçenek|opció|svarsalternativ|svar|mulighed",
)
"""What a single option is called, right before its letter."""

ARTICLES = _any(
    "the|that|my|der|die|das|den|dem|la|le|el|los|o|a|il|lo|het|de|l['’]|den|det|την|η|ang|az|l['’] ?", "number|nr\\.?"
)

ADJECTIVES = _any(
    "let|const|var|točan|točno|мој|мојот|ime|верният|верен|ճիշտ|ትክክለኛው|የእኔ|本题|该题|此题|本題",
    "most (?:fitting|appropriate|suitable|accurate|logical|likely|natural|reasonable|just|relevant|sensible|aligned|honest|fitting)",
    "the (?:respondent|persona|person)['’]s|submit|give|return|set|fitting|appropriate|suitable|accurate|logical|natural|obvious|reasonable|considered|first|true|given|stated|clear|one|likely|predicted",
    "prawidłowa|właściwa|моят|верният|мојот|teisingas|mano|pareizā|mana|õige|minu|rätt|riktigt|riktig|korrekt|oma|minun|jouw|jullie|ek se",
    "дұрыс|менің|туура|менин|дөрес|минем|میرا|میری|صحیح|درست|من|योग्य|माझे|मेरो|सही|ਮੇਰਾ|ਸਹੀ|ನನ್ನ|ಸರಿಯಾದ|എന്റെ|ശരിയായ|મારો|સાચો|ჩემი|սწორ|իմ|зөв|миний",
    "សំណួរ|កាន់|to'g'ri|mening|düzgün|mənim|im|sebenar|akhir|penyelesaian|gewählte|ausgewählte|escolhida|elegida|scelta|choisie|valgte|valda|benar",
    "the|my|our|your|an?|so|final|best|correct|right|chosen|selected|preferred|own|personal|honest|single|overall|short",
    "definitive|ultimate|fairest|most fair|actual|main|top|favou?rite|direct|one-letter|revised|corrected|updated|new",
    "der|die|das|meine?|deine|endgültige|finale|richtige|korrekte|beste|la|le|ma|mon|votre|l['’]|bonne|meilleure?",
    "mi|el|tu|mejor|correcta|minha|meu|a|o|melhor|correta|sua|il|lo|mio|mia|migliore|corretta|de|het|mijn|juiste",
    "definitieve|mitt|min|mit|det|rätta|rigtige|riktige|bästa|bedste|beste|slutliga|endelige|oikea|paras|lopullinen",
    "moja|mój|poprawna|ostateczna|najlepsza|moje|má|správná|konečná|moja|správna|a|az|helyes|végső|legjobb|corect",
    "corectă|final|finală|meu|mea|benim|doğru|en iyi|nihai|son|η|μου|σωστή|τελική|мой|моя|моё|правильный|верный",
    "окончательный|итоговый|лучший|моя|правильна|остаточна|мій|moj|tačan|पहला|मेरा|मेरी|सही|अंतिम|আমার|সঠিক|চূড়ান্ত",
    "என்|சரியான|నా|సరైన|saya|我的|我|最终|最終|最后|最後|最佳|最好的|正确|正確|正確な|正しい|的|最合适的|最符合的|私の|僕の",
    "最終的な|の|제|나의|내|저의|최종|올바른|가장 좋은|나의|jibu|langu|ang|aking|tamang|panghuling",
)
"""What may stand before one of `NOUNS`, up to the clause's start or its lead."""

AFTER_NOUN = _any(
    "#?\\d{1,2}|to question \\d{1,2}|(?:closest|nearest) to (?:my \\w+|me)|mitt|mín|ime|jime|zuzena|nire|waa|wa|о вопросе|eka|ya ka",
    "سوفית|סופית|correcte|choisie|escolhida|elegida|scelta|mi|wangu|yangu|ku|anda|mo|nang|ya|ni|yang tepat|tepat|nihaya|ดีที่สุด|của mình|là câu",
    "of mine|to this question|to the question|here|for me|for this question|in this case|i choose|i would choose|i pick",
    "i'd choose|i've chosen|i would pick|i prefer|i select|i would select|i'd pick|i will choose|i'll choose|i am choosing",
    "that i choose|that i would choose|that i prefer|that i'd choose|that i pick|letter|number|option",
    "(?:that|which) (?:best |most closely )?(?:aligns with|reflects|matches|fits|represents|suits) "
    "(?:me|my [a-z]{3,12}(?: and [a-z]{3,12})?|the persona|this persona)(?: best| most| most closely)?",
    "finale?|final|correct[ae]?|correta|corretta|definitiv[ae]|definitiva|es|meu|mea|μου|النهائية|الصحيحة|النهائي",
    "الصحيح|الأفضل|צודקת|הנכונה|הסופית|שלי|نهایی|صحیح|من|đúng|cuối cùng|của tôi|chính xác|saya|akhir|akhirnya|benar",
    "yang benar|yang saya pilih|ko|langu|sahihi|ya mwisho|ของฉัน|ของผม|ที่ถูกต้อง|สุดท้าย|ist|lautet",
)

NEAREST = _any(
    "(?:the )?(?:one |option |answer |statement |choice )?(?:that is |that['’]s |which is )?(?:closest|nearest)(?: (?:option|answer|statement|choice|match|one))?"
    "(?: (?:to|with|for) [^.,:;!?\n]{1,50}?)?|(?:the )?(?:best|closest) (?:match|fit)(?: (?:to|with|for) [^.,:;!?\n]{1,50}?)?",
    "(?:meiner (?:ansicht|meinung|haltung) |mir |für mich )?am (?:nächsten|ehesten)(?: (?:ist mir|kommt mir|kommt|steht mir|liegt mir|meiner meinung kommt))?(?: antwort| option)?",
    "(?:l['’]option |la réponse |celle )?(?:la |qui est la |le )?plus proche de [^.,:;!?\n]{1,40}?|(?:la opción |la respuesta )?(?:la |que )?más (?:cercana a|se acerca a) [^.,:;!?\n]{1,40}?",
    "(?:a opção |a resposta )?(?:a )?(?:mais próxima d|que mais se aproxima d)[^.,:;!?\n]{1,40}?|(?:l['’]opzione |la risposta )?(?:la |quella )?(?:più vicina a|che si avvicina di più a)[^.,:;!?\n]{1,40}?",
    "(?:мне )?ближе всего(?: (?:мне|к (?:моей|моему|моим) [^.,:;!?\n]{1,30}?))?|(?:мені )?найближч(?:ий|а|е)(?: мені)?|najbliżs?za? (?:moim|mojej|mojemu|mi)?[^.,:;!?\n]{0,20}? jest|nejblíž(?:e|ší)[^.,:;!?\n]{0,30}?",
    "(?:optie |het antwoord )?(?:die |dat )?het dichtst bij [^.,:;!?\n]{1,30}?|(?:det )?(?:som )?(?:ligger )?(?:närmast|nærmest)[^.,:;!?\n]{0,30}?|en yakın(?: olan)?(?: seçenek| cevap)?|görüşüme en yakın seçenek",
    "(?:最接近|最符合|最贴近|最能代表)(?:我|自己)?[^.,:;!?\n]{0,12}?(?:的)?(?:选项|選項|答案|观点|想法)?|(?:私の|自分の)?[^.,:;!?\n]{0,12}?(?:最も|一番)近いのは|[^.,:;!?\n]{0,14}?가장 (?:가까운|잘 맞는) (?:것은|것|선택지는|답은)",
    "الأقرب (?:إلى|لـ?)[^.,:;!?\n]{1,25}?|نزدیک.?ترین گزینه[^.,:;!?\n]{0,25}?|[^.,:;!?\n]{0,20}?सबसे (?:करीब|निकट)(?: विकल्प)?|[^.,:;!?\n]{0,20}?সবচেয়ে (?:কাছাকাছি|কাছের)|(?:yang )?paling dekat dengan [^.,:;!?\n]{1,25}?|gần (?:với )?[^.,:;!?\n]{1,25}? nhất",
)
"""What says of an option that it comes nearest to the respondent, before its letter."""

COPULA = _any(
    "е|da",
    "és|ir|bi|da|yra|on see|ass|to je|ha de ser|sería la|sera la|seria a|är alternativ|er svar|est la lettre|є варіант|آهي|ہے|ہوگا|अाहे|आहे|छ|នីះ|គឺ|មှာ|မှာ|ແມ່ນ|ಆಗಿದೆ|ni|je to|นี่คือ|คือข้อ|là phương án|is:|应为|應為|应当是|是选项|就是选项",
    "is|'s|’s|would be|will be|has to be|must be|should be|remains|is clearly|is therefore|is thus|is definitely|is simply",
    "would have to be|ought to be|would definitely be|would still be|is probably|is likely|would likely be|would probably be",
    "ist|lautet|wäre|est|serait|sera|es|sería|seria|é|è|sarebbe|är|er|on|jest|to|je|sunt|este|e|είναι|это|є|—|هي|هو",
    "است|היא|הוא|是|为|為|就是|应该是|应是|應該是|則是|选|選|は|が|은|는|이|라고|là|adalah|ialah|ay|ni|คือ|है|হল|হলো|ஆகும்|:",
)

CHOOSES = _any(
    "i['’]?d tick|i would tick|i['’]ll tick|i feel closest to|i am closest to|i['’]m closest to|i would sign|i['’]d sign",
    "(?:id|ill|im|ive) (?:probably |definitely |still )?(?:go with|choosing|choose|pick|picking|say|going with|take|for|chosen)|it means i (?:choose|pick)|(?:and|so) i (?:choose|pick|go with)",
    "ich bleibe bei|je choisirais plutôt|je penche plutôt pour|je reste sur|me quedo con la|fico com a|我还是选|我还是选择|我選|(?:finalmente |al final )?escojo|alla fine scelgo|всё-таки выбираю|всё же выбираю|akhirnya saya memilih|لكنني أختار|ولكني أختار",
    "i['’]m voting(?: for)?|i am voting(?: for)?|(?:mark|sign) me (?:down )?(?:for|as)|that['’]d be|(?:i|i['’]d|i['’]ll|i will|i would|let me|i['’]m|i am) (?:therefore |now |like to )?(?:change|changing|changed|switch|switching|revise|revising|update|correct|amend)(?: my| the)?(?: answer| choice| mind| vote)?(?: from (?:option )?[A-Z])? to",
    "votaría por(?: la)?|voto(?: por| per| la)?|я б обрав|я б обрала|я б вибрав|wybrałabym|wybrałbym|მე ვირჩევ|ვირჩევ|ես ընտրում եմ|ընտրում եմ|הייתי בוחר(?:ת)?(?: ב-?)?|waxaan dooranayaa|waan doortay|dooran lahaa|nan filannaa|ndingasankhe|ndimasankha|yo hubiera elegido|yo diría|io voterei",
    "(?:the one|what) i(?:'d| would| will)? (?:choose|pick|prefer|select) (?:is|would be)|(?:this|that|which) (?:leads|brings|makes|lets) me (?:to )?(?:to |choose|pick|select|prefer|favou?r|my answer:?|option)(?:choose|pick|select|prefer)?",
    "(?:put|count) me (?:down )?(?:for|as|in for)|(?:i['’]m|i am) (?:all )?(?:for|with|team|in favou?r of)|so do i|gotta be|has to be|must be|it has got to be",
    "i (?:mostly|largely|fully|completely|entirely|strongly) agree with|the (?:statement|option|one) (?:i|that i) (?:agree with|identify with|like|prefer) most is",
    "the (?:best fit|best match|closest)(?: for me| to my views?| to me)? is|i['’]ll (?:go with|take|say|pick|choose)",
    "(?:wähle|nehme|bevorzuge|entscheide) ich(?: mich)?(?: aber| daher| also| deshalb| jedoch| lieber| klar)?(?: für)?|würde ich (?:mich für |klar |eher )?|meine (?:wahl|stimme|antwort|entscheidung) (?:fällt auf|gilt|geht an|ist)|für mich ist es|ich sage",
    "mijn keuze valt op|ik zou(?: voor)?|ik zou zeggen:?|ek (?:kies|sou)|jag skulle (?:säga|välja|ta)|jeg (?:ville|vil) (?:sagt|sige|si|velge|vælge|tage|ta)|mitt val (?:faller på|är)",
    "mitt valg (?:faller på|er)|mit valg (?:falder på|er)|izberem|izbral bi|izbrala bi|изабрао бих|изабрала бих|бирам|избирам|избрал бих|избрала бих|renkuosi|rinkčiausi|pasirinkčiau",
    "es (?:izvēlos|izvēlētos)|ma (?:valin|valiksin)|zgjedh|do të zgjidhja|θα επέλεγα το|επιλέγω το|dewisaf|byddwn yn dewis|roghnaím|roghnóinn|mi elektas|mi elektus",
    "ég (?:vel|myndi velja)|mình (?:chọn|sẽ chọn)|em chọn|ຂ້ອຍເລືອກ|ខ្ញុំជ្រើសរើស|ខ្ញុំ\u200bជ្រើសរើស|na zaɓi|ina zabar|mo yan|mpitamo|nahitamo|ndinosarudza|ngikhetha|ndikhetha|mifidy|ngiyakhetha|ke khetha|pinipili ko ang",
    "aku pilih|saya pilih|tercihim|seçimim|我投|我揀|我挑|我要|我决定(?:选择)?|本人选择|私なら|我會選擇|sceglierei|mi orienterei su|punto su|je vote|je dirais|moi, je choisis",
    "escolheria a|escolho a|elijo la|elegiría la|me quedo con la|scelgo la|sceglierei l['’]|scelgo l['’]",
    # "I", up to some auxiliaries and adverbs, and a verb; then the same in other languages that put the letter last.
    "(?:i|we)(?:(?:'d|’d|'ll|’ll|'m|’m|'ve|’ve)| would| will| do| must| have to| want to| need to| am| have"
    "| had to| definitely| certainly| clearly| probably| strongly| still| therefore| thus| personally| would have to"
    "| also| always| simply| rather| instead| actually| generally| naturally| likely| most likely| now| then| hereby"
    "| ultimately| firmly| honestly| really| just| most| gladly| confidently| inclined to| going to| leaning to"
    "| ready to| like to){0,4} "
    "(?:choose|chose|chosen|pick|picked|picking|choosing|select|selected|selecting|prefer|preferred|go with|go for"
    "|going with|going for|gone with|went with|opt for|opted for|opting for|vote for|voted? for|favou?r|support|back|take"
    "|lean towards?|leaning towards?|lean to|leans? more towards?|side with|agree with|agree most with|agree more with"
    "|answer|answer with|stand by|stand with|stick with|say|want|settle on|settled on|decide on|decided on|decide for"
    "|identify with|identify most with|endorse|endorsed|vote|be choosing|be going with|respond with|choose for myself"
    "|meant|mean|think|pick out|respond)",
    "my (?:vote|choice|pick|answer|preference) (?:goes to|goes for|falls on|fell on|is for|would go to|would be for)",
    "(?:let me|let's|let’s|let us) (?:go with|choose|pick|select|answer|say|go for)",
    "ich (?:(?:würde|werde|muss|möchte) )?(?:klar |eindeutig |eher |persönlich |definitiv )?(?:mich für|wähle|nehme"
    "|bevorzuge|bin für|stimme für|antworte mit|entscheide mich für|entscheide mich (?:klar|eindeutig|daher) für"
    "|tendiere zu|plädiere für|halte|habe mich für|würde mich für|würde|werde|möchte|präferiere|unterstütze)",
    "je (?:choisis|choisirais|choisirai|préfère|préférerais|prends|prendrais|sélectionne|opte pour|opterais pour"
    "|vote pour|voterais pour|penche pour|dirais|réponds|suis pour|retiens|soutiens)|j['’](?:opte pour|opterais pour|ai choisi)",
    "mon choix (?:se porte sur|est)|nous choisissons",
    "(?:yo )?(?:elijo|elegiría|escojo|escogería|prefiero|preferiría|opto por|optaría por|selecciono|seleccionaría"
    "|me quedo con|me quedaría con|voto por|me decanto por|me inclino por|respondo|diría|apoyo)",
    "(?:eu )?(?:escolho|escolheria|prefiro|opto por|opto pela|optaria por|optaria pela|seleciono|fico com|ficaria com"
    "|voto em|voto na|respondo|diria|apoio|escolhi)",
    "(?:io )?(?:scelgo|sceglierei|preferisco|preferirei|opto per|opterei per|seleziono|voto per|rispondo|direi)",
    "ik (?:zou )?(?:kies voor|kies|ga voor|neem|verkies|selecteer|stem voor|antwoord|zeg)",
    "jag (?:väljer|skulle välja|föredrar|röstar på|svarar|valde)|jeg (?:vælger|velger|ville vælge|ville velge|ville valgt"
    "|foretrækker|foretrekker|stemmer på|svarer|går for)",
    "(?:minä )?(?:valitsen|valitsisin|kannatan|vastaan)|(?:ja )?(?:wybieram|wybrałbym|wybrałabym|wolę|głosuję na|stawiam na)",
    "(?:já |ja )?(?:volím|vybírám si|vybírám|vyberu|zvolil bych|zvolila bych|vyberám|vyberám si|biram|izabrao bih|odabirem)",
    "(?:eu )?(?:aleg|aș alege|as alege|prefer|optez pentru|votez pentru)|(?:trio|trii)? ?(?:triaria|trio)|(?:jo )?escullo",
    "(?:я )?(?:бы )?(?:выбираю|выбрала? бы|выберу|выбрала?|предпочитаю|предпочту|предпочла? бы|за|голосую за|отвечаю"
    "|обираю|вибираю|обрав би|обрала б|віддаю перевагу|избирам|бирам|бих избрал)",
    "(?:εγώ )?(?:θα )?(?:επιλέγω|επέλεγα|διαλέγω|διάλεγα|προτιμώ|προτιμούσα)",
    "(?:أنا )?(?:سوف )?(?:أختار|اختار|سأختار|أفضل|اخترت|أفضّل)|(?:אני )?(?:בוחר(?:ת)?(?: ב-?)?|בחרתי(?: ב)?|מעדיפ?ה?|אבחר(?: ב)?)",
    "我?(?:个人)?(?:会|會|将|將|要|宁愿|更|仍|还是|還是|应该|應該|愿意|倾向于?|更倾向于?|傾向於?)?"
    "(?:选择|選擇|选|選|支持|赞成|赞同|倾向于?|投票?给)(?:的是|了)?",
    "tôi (?:sẽ |xin )?(?:chọn|thích|ủng hộ|trả lời)|(?:saya|aku) (?:akan |lebih )?(?:memilih|pilih|milih|menjawab)",
    "(?:ฉัน|ผม|ดิฉัน|ข้าพเจ้า)?(?:จะ|ขอ)?(?:เลือก|ตอบ)|(?:mimi )?(?:ninachagua|nachagua|ningechagua)|(?:pinipili ko|pipiliin ko)",
    "(?:én )?(?:választom|inkább)|mo yan|ina zaɓar|ngikhetha",
)
"""A person's own choice, before its letter."""

PERSONA_CHOOSES = (
    r"(?:(?:la|una) persona descri(?:ta|tta) (?:elegiría|escogería|sceglierebbe|respondería|risponderebbe)(?: la)?|la personne décrite (?:choisirait|répondrait|prendrait)"
    r"|die beschriebene person würde|a pessoa descrita (?:escolheria|responderia)(?: a)?|описанный человек (?:выбрал бы|ответил бы)|वर्णित व्यक्ति"
    r"|(?:only )?the persona['’]s,? which would be|(?:(?:this|the) (?:person|persona|respondent|character|individual|participant)(?: described| in question| above)?(?:['’]d| would| will)?"
    r"(?: (?:most likely|probably|clearly|definitely|likely|certainly|surely|always))? "
    r"(?:choose|chooses|pick|picks|select|selects|prefer|prefers|go with|goes with|answer|answers|opt for|say)s?))"
)
"""The one who is played chooses. In a reply that was cut off, this is the model's thought about it."""

CHOOSES_AFTER = _any(
    "-(?:ს|ն|ն)(?= ?[.\n]|$)| ?را انتخاب می ?کنم| ?になります| (?:lehetőséget )?választom",
    " ?(?:вариантын |варианти |вариантын )?(?:тандайм|тандаймын|танлайман)| (?:را )?(?:انتخاب می.{0,2}کنم|انتخاب می‌کنم)|-?(?:ს|ն|ն) ?$",
    "['’]?(?:ı|i|yı|yi)? ?(?:derdim|olurdu|derim|seçerdim|işaretlerdim)| ?(?:şıkkı|seçeneği|şıkkını|seçeneğini)(?:(?:dir|dır)| seçiyorum| seçerim| tercih ederim)",
    " ?(?:нұсқасын |вариантини |variantini |variantın[ıi] )?(?:таңдаймын|тандайм|tanlayman|tanlardim|seçirəm|seçərdim|сайлаймын)",
    "-?(?:г|ийг)? ?(?:хувилбарыг )?(?:сонгоно|сонгож байна)| (?:chunta|चुन्छु|रोज्छु|निवडतो|निवडते|निवडेन|चुनिन्छु)| ?(?:ને |ને)?(?:પસંદ કરું છું|પસંદ કરીશ)| ?(?:ਨੂੰ )?(?:ਚੁਣਦਾ|ਚੁਣਦੀ|ਚੁਣਾਂਗਾ)(?: ਹਾਂ)?",
    " ?(?:ஐத் |ஐ |-ஐ )?(?:தேர்ந்தெடுக்கிறேன்|தேர்வு செய்கிறேன்|தேர்ந்தெடுப்பேன்)| ?(?:ను |ని )?(?:ఎంచుకుంటాను|ఎంచుకుంటున్నాను)| ?(?:ಅನ್ನು )?(?:ಆಯ್ಕೆ ಮಾಡುತ್ತೇನೆ|ಆರಿಸುತ್ತೇನೆ)",
    " ?(?:തിരഞ്ഞെടുക്കുന്നു|തിരഞ്ഞെടുക്കും)| ?(?:තෝරා ගනිමි|තෝරමි|තෝරනවා)| ?(?:ကို )?(?:ရွေးပါမယ်|ရွေးချယ်ပါမယ်|ရွေးတယ်)| ?(?:ን )?(?:እመርጣለሁ|መርጣለሁ)| ?(?:چنوں گا|چنوں گی|منتخب کرتا ہوں|منتخب کروں گا|کا انتخاب کرتا ہوں)",
    " (?:aukeratzen dut|aukeratuko nuke|hautatzen dut)|(?:\\(z\\))? [A-Z]? ?lehetőséget választom| választom|一票|を選択いたします|にします|を選択|を選びたいと思います|でお願いします|を推します",
    " ?(?:को चुनूँगा|को चुनूंगा|लाई रोज्छु)| ?(?:ko chununga|chunta hoon)| (?:را انتخاب خواهم کرد|را برمی‌گزینم)|에 투표합니다|을 고를 것입니다|입니다\\. 선택합니다",
    # Languages that put the verb last.
    "になります|번을 선택합니다|を(?:選びます|選ぶ|選択します|選択する|選びたいです|支持します|選びました|選びたい)|(?:が|で)(?:いいです|良いです|最も適切です|適切です|"
    "一番近いです|お願いします)|だと思います|だと考えます|と答えます",
    "(?:을|를|번을|번을|이|가)? ?(?:선택합니다|선택하겠습니다|선택할 것입니다|고르겠습니다|고릅니다|선호합니다|택하겠습니다|선택한다|"
    "선택할게요|선택하겠다|고르겠다|고를 것 같습니다|선택할 것 같습니다|고를게요|지지합니다|맞다고 생각합니다)|(?:이|가)? ?(?:라고|이라고) (?:생각합니다|답하겠습니다)",
    "['’]?(?:yi|yı|yu|i|ı|u|ü|nı|ni|ye|ya|e|a)? ?(?:seçeneğini |şıkkını |seçeneği )?(?:seçiyorum|seçerim|seçerdim|"
    "tercih ediyorum|tercih ederim|tercih ederdim|seçeceğim)",
    " ?(?:को )?(?:चुनता|चुनती|चुनूंगा|चुनूँगा|चुनूंगी|चुनूँगी|पसंद करता|पसंद करती)(?: हूँ| हूं)?",
    "-?(?:t|et|ot|öt)? (?:választom|választanám|választ(?:om|anám) inkább)",
    " (?:را )?(?:انتخاب می.?کنم|ترجیح می.?دهم|برمی.?گزینم)",
    " ?(?:কে )?(?:বেছে নেব|বেছে নিচ্ছি|নির্বাচন করছি|নির্বাচন করব|পছন্দ করি)|[- ]?ஐ? ?(?:தேர்வு செய்கிறேன்|தேர்ந்தெடுக்கிறேன்)",
)
"""A person's own choice, after its letter."""

CHOOSES_AROUND = _any(
    "gaan|sagen|zeggen|tippen|votieren|sein|wählen würde|voorkeur geven",
    "wählen|nehmen|entscheiden|bevorzugen|antworten|stimmen|aussprechen|entschieden|plädieren|vorziehen|kiezen|nemen|"
    "auswählen",
)
"""The verb at the end of a clause whose auxiliary is one of `CHOOSES`."""

PICKING = _any(
    "vote|going with|choosing|picking|selecting|opting for|choose|pick|select|selected|chosen|and|but|so|also|i|then|maar|mais|ale|ma|mas|pero|aber"
)
"""Before a letter that ends its clause."""

IT_IS = _any(
    "changed my mind|(?:changed|changing|switched|switching)(?: my answer| my choice| my mind)? from (?:option )?[A-Z] to|dr",
    "put my name (?:under|down for)|tick(?: the box for)?|mark|give me|so put|put down|(?:put|count|mark|sign) me (?:down )?(?:for|as|in for)|choice made|bot>|action input",
    "однозначно|скорее всего|sin duda, la|sin duda|seguramente|sans hésiter|ohne zweifel|definitiv|eindeutig|natürlich|pas de doute|senza dubbio|sem dúvida|بل|بلکه|बल्कि|mà là|而是|maar|mais|ale|gun to my head|final|mostly|in character|as the person described|in der rolle der beschriebenen person|tl ?;? ?dr|richtig ist|korrekt ist|저라면|저는|switching to",
    "that['’]d be|是|а|to sum up|tylko|ce serait plutôt|то есть|should be|je dirais|it should be|it ought to be|the answer must be",
    "actually|in fact|rather|instead|that leaves|this leaves|leaves|correction|corrected|no|sorry|scratch that|but|but rather|but for me|sondern|sino|lakin|ama|ende|fazit|if pressed|i suppose|i guess|then it's|it has to be|ah oui|solo|für mich|für mich ist es|pour moi|pour moi c['’]est|para mí|para mim|per me|bence|我的是|還是|还是|結局|最后|最後|最终",
    "it is|it's|it’s|that is|that's|that’s|it would be|it'd be|that would be|it must be|it has to be|i mean|i meant",
    "make it|make that|this is|definitely|certainly|absolutely|probably|clearly|easily|obviously|so|thus|therefore|hence",
    "ergo|leaving|which leaves|deshalb|daher|c['’]est|ce serait|donc|es la|es|sería|entonces|por tanto|é a|é|portanto|è la|quindi",
    "это|поэтому|значит|所以|因此|故|应选|應選|应选择|故选|故選|应该选|よって|したがって|따라서|그래서|jadi|vậy|maka|takže|więc|dlatego",
    "without (?:a )?doubt|for me|for me it's|for me it is|to me it is|mine is|went with|the former|i'm|i’m|i am",
)
"""Before a letter that is a clause of its own."""

LEAD = _any(
    "awalnya [^.,!?\n]{1,40}|tetapi|tapi|et|und|y|e|и|та|i|en|och|og|ja|ve|و|وَ|और|এবং|和|而|そして|그리고|pero al final|al final|ma alla fine|alla fine|но|но всё-таки|всё-таки|jedoch|doch|aber|mais|pero|ma|mas|ale|maar|men|lakin|ama|لكن|ولكن|लेकिन|কিন্তু|但|但是|不过|でも|しかし|하지만|nhưng",
    "out of the (?:three|options?)|of the three|hmm|well now|tough one|oh [a-z]{2,12}|ha|look|honestly|listen|part of me says [A-Z]|",
    "answering as [^.,!?:\n]{1,60}|in character|speaking personally|i can['’]?t (?:really |fully )?explain (?:it|why)|B도 좋지만|[A-Z](?:도 좋지만|も良いですが|也不错)|no (?:es )?[A-Z] sino|لیس|ليس [A-Z]|نه [A-Z]|không phải [A-Z]|niet [A-Z]|pas [A-Z]|[A-Z] নয়|final(?:ly)?",
    "taking everything into account|to sum up|summing up|in sum|i have no doubt|no doubt|weighing (?:it|everything|all of this)(?: all)?(?: up)?|all told|when all is said and done|at the end of the day|put simply|simply put|bottom line|in a word|as things (?:are|stand)|fazit|em suma|en resumen|en résumé|in sintesi|в общем|总的来说|kurzum|kısacası|nie [A-Z]|не [A-Z]|no [A-Z]|non [A-Z]|não [A-Z]|pas [A-Z]|niet [A-Z]",
    "dass|que|che|что|att|at|da|hogy|here['’]?s|here is|this is|that is|which is why|\\[?[A-Z](?: ?[/,|] ?(?:or )?[A-Z]){1,5}\\]?|thanks|thank you(?: for [^.,!?\n]{1,40})?|great question|good question|of course|absolutely|fair enough|let me (?:think|answer)(?: [^.,!?\n]{1,40})?",
    "if (?:i|we) (?:have to|had to|must|need to)[^.!?,\n]{0,30}",
    "(?:forced|pressed|asked) to choose|if (?:pressed|forced|asked)|i['’]m (?:\\w+ ){0,2}(?:sure|confident|certain|convinced)(?: that)?|i am (?:\\w+ ){0,2}(?:sure|confident|certain|convinced)(?: that)?|(?:i )?therefore",
    "(?:not )?[A-Z] ?(?:ではなく(?:て)?|가 아니라|이 아니라|değil|नहीं|不是|而是|nem)|nicht [A-Z]|not [A-Z]|hovering|da ich [^.!?,\n]{1,60}|am ehesten|am ende|letztlich|eu,|yo,|moi|nosotros|für mich|in the end|in all honesty|deep down",
    "如果(?:一定|必须|非)?要选(?:一个)?|如果必须选择|私なら|僕は|俺は|мен|би|men|mən|म|मी|મે|હું|ਮੈਂ|நான்|నేను|ನಾನು|ഞാൻ|මම|میں|ကျွန်တော်|ကျွန်မ|እኔ|ben olsam|nik|jo|já|ja|já bych|bych|ik|jag|jeg|minä|én|εγώ|я",
    "and|but|so|thus|therefore|hence|then|now|well|okay|ok|alright|right|yes|yeah|sure|certainly|of course|finally",
    "ultimately|overall|clearly|honestly|personally|again|here|also|still|instead|actually|rather|sorry|oh|hmm|ah|great",
    "in conclusion|in short|in summary|to summarize|in the end|in this case|in my (?:view|opinion|judge?ment|case|heart)",
    "to conclude|to be honest|to be clear|all in all|all things considered|after (?:careful |some |much )?(?:thought|"
    "consideration|reflection|thinking|deliberation)|on balance|on reflection|because of (?:this|that)|for (?:this|that|these)"
    " reasons?|with that in mind|that said|if you ask me|if (?:you|they) (?:make|made|force|forced|press|pressed|push) me(?: to)?(?: choose| pick)?|if i really (?:must|have to|had to)(?: choose| pick| decide)?|to me|for me|as such|accordingly|consequently|from my "
    "(?:perspective|point of view|standpoint)|with (?:certainty|confidence)|without (?:a )?(?:doubt|hesitation)",
    "(?:i|we) (?:would |'d |do |strongly |firmly |really |therefore |personally |also |still )?(?:think|believe|feel|guess"
    "|suppose|say|know|conclude|decide|find|am sure|am certain|am confident|reckon|maintain|hold|argue)(?: that)?",
    "i['’](?:d|m) (?:say|argue|sure|confident|certain|guess)(?: that)?|it (?:is|seems)(?: clear| obvious| right)?"
    "(?: to me)?(?: that)?|this (?:means|suggests|is why)(?: that)?|which means(?: that)?|that(?:['’]s| is) why|why|that",
    "ich (?:denke|glaube|finde|meine)(?: dass)?|also|daher|deshalb|meiner meinung nach|als [^.!?\n]{1,60}",
    "je (?:pense|crois|dirais)(?: que)?|donc|pour moi|à mon avis|selon moi|en tant que [^.!?\n]{1,60}",
    "(?:yo )?(?:creo|pienso|diría)(?: que)?|por lo tanto|por tanto|entonces|en mi opinión|para mí|como [^.!?\n]{1,60}",
    "(?:eu )?(?:acho|penso|creio)(?: que)?|portanto|então|na minha opinião|para mim|logo|(?:io )?(?:penso|credo)(?: che)?",
    "quindi|secondo me|dunque|ik denk(?: dat)?|dus|jag tror(?: att)?|jeg tror(?: at)?|därför|derfor|myślę,? że|więc|zatem",
    "я (?:думаю|считаю)(?: что)?|думаю|считаю|поэтому|итак|таким образом|значит|отже|тому|по-моему|на мой взгляд",
    "我(?:认为|觉得|相信|认為)|個人認為|我認為|所以|因此|那么|綜上(?:所述)?|综上(?:所述)?|总之|總之|故|对我来说|作为[^。.,!?\n]{1,40}",
    "私(?:は|としては)|よって|したがって|従って|つまり|だから|以上より|저는|저라면|나는|그래서|따라서|제 생각에는?|제가|결론적으로",
    "ben|bence|bu yüzden|dolayısıyla|मैं|मेरे विचार में|इसलिए|मेरे लिए|আমি|আমার মতে|من|به نظر من|أنا|لذلك|في رأيي|إذن|برأيي",
    "saya|menurut saya|jadi|oleh karena itu|theo tôi|vì vậy|do đó|ดังนั้น|ฉันคิดว่า|kwa hivyo|kaya|proto|takže|myslím(?:,? že)?",
    "szerintem|tehát|ezért|cred că|deci|prin urmare|νομίζω ότι|πιστεύω ότι|άρα|לדעתי|לכן|mielestäni|siis|joten|én",
)
"""What may stand before an announcement within its clause."""

WHEREAS = (
    r"(?:(?:as|speaking as|answering as|being) [^.,:!?\n]{1,80}|(?:because of|since|while|although|even though|though) [^.,:!?\n]{1,70}"
    r"|(?:based on|given|considering|thinking about|reading|for|in|with|at|on|from|under|by|of) "
    r"(?:this|that|these|the|my|all|such|our|your|everything|what)(?![^.,:!?\n]*\b(?:not|least|worst|last|never)\b)[^.,:!?\n]{0,80})"
)
"""A clause before an announcement, in words that are not known."""

PRAISE = (
    r"(?:(?:is|would be|will be|remains|feels|seems|sounds|looks)(?: clearly| definitely| probably| still| simply)?"
    r"(?: the| my)?(?: only)? (?:best|better|right|correct|fairest|fairer|preferable|preferred|closest|wisest|most fair|most "
    r"just|more just|more fair|ideal|strongest|most (?:appropriate|suitable|reasonable|aligned))\b"
    r"|(?:comes|is|seems|feels|sits|stands) (?:the )?(?:closest|nearest)\b|sums it up for me\b|feels like me\b|makes (?:the )?most sense\b|est la plus proche\b"
    r"|komt het dichtst\b|kommt (?:mir |meiner \w+ )?am nächsten\b|es la más cercana\b|é a mais próxima\b|è la più vicina\b|bana en yakın\b|比较接近我|最接近我|speaks for me\b|is me\b|it is me\b"
    r"|trifft (?:am ehesten |am besten )?auf mich zu|am besten (?:passt|entspricht)|passt am besten|entspricht (?:am besten |am ehesten )?mein|(?:me )?correspond le mieux|me representa"
    r"|se ajusta (?:mejor|más)|combina melhor|最符合|最接近|最能代表|が一番(?:近い|合って)|(?:이|가) 가장 (?:가깝|적절|잘)"
    r"|(?:best |most closely |most |clearly |really |definitely |truly |more closely |strongly |better |closely )?"
    r"(?:aligns?|reflects?|match(?:es)?|fits?|represents?|resonates?|speaks to|captures?|suits|appeals|describes?|expresses)"
    r"(?: best| most| most closely| more closely| well| closely)?(?: with| to)? "
    r"(?:me|my|our|the persona|this persona|what i|how i|who i|the values))"
)
"""A predicate that says of an option that it is the respondent's, if it is the only one that is spoken of."""

IS_CHOSEN = (
    r"(?:it is\b|(?:is|would be|will be|remains|has to be|must be|wins|gets my vote|is clearly|is definitely)"
    r" (?:my|what i(?: would| will|['’]d|['’]ll)? (?:choose|pick|prefer|select|go with|tick)|the (?:letter|option|one|only one) (?:that )?i(?: would| will|['’]d|['’]ll|['’]m| am| could)? (?:choose|pick|choosing|picking|prefer|select|sign|tick|going with)|mine\\b|the one(?: that)? i(?: would|'d|'ll| will)? "
    r"(?:choose|pick|prefer|select|go with)|the option(?: that)? i(?: would|'d)? (?:choose|pick|prefer|select)|the answer\b"
    r"|the (?:best|right|correct|final|fairest) (?:answer|choice|option|one)\b)(?! (?:last|least|second|worst))"
    r"|gets my vote|has my vote|it is$|(?:is|comes|seems) (?:the )?(?:closest|nearest)\b|est la plus proche\b|es la más cercana\b|é a mais próxima\b|è la più vicina\b|is the one\b(?! i)|is (?:hereby )?(?:selected|chosen|preferred|my man)\b|ist meine|ist die richtige|est ma|est mon|est la bonne|es mi|es la|é a minha|é minha"
    r"|è la mia|is mijn|är mitt|on vastaukseni|— мой|это мой|是我的|是正确|是正確|が私の|が正解|이 제|가 제|가 정답|이 정답)"
)
"""A predicate that says of an option that it is chosen."""

FOLLOWS = _any(
    "explanation|reason|reasoning|justification|rationale|why|note|confidence|all the way|any time|anytime|hands down|one hundred percent|rather than|instead of|than any|than the|to my mind|plutôt que|invece di|statt|anstatt|anstelle|en vez de|em vez de|вместо|а не|вместо того|nicht [A-Z]|und nicht|وليس|و ليس|e non|y no|et pas|et non|niet [A-Z]|затоа што|затоа|weil|dahil sa|kerana|क्योंकि|કારણ કે|なぜなら|왜냐하면",
    # None of these comes after an article, so that the letter before it is a letter.
    "because|since|as|for|it|this|that|which|who|i|i['’]d|i['’]m|we|my|our|the|their|his|her|its|in|on|over|with|without|and",
    "but|so|while|although|though|rather|instead|from|by|to|here|every time|always|definitely|again|please|thanks|these",
    "those|given (?:my|the|that|this|what|how|its)|based on|due to|according to|at|if|when|where|being|of course|not [A-Z]",
    "among|above|after|unlike|despite|hands down|any day|considering|believing|as well|no matter|most of all|today",
    "weil|denn|da|und|aber|parce que|car|puisque|pour|mais|et|porque|ya que|pero|para|pois|mas|perché|poiché|ma|omdat|want",
    "för att|eftersom|fordi|koska|ponieważ|bo|protože|mert|deoarece|çünkü|επειδή|γιατί|потому|так как|поскольку|тому",
    "لأن|لأنها|لأنه|زیرا|چون|כי|क्योंकि|কারণ|vì|bởi vì|karena|kerana|sapagkat|dahil|kwa sababu|เพราะ|po|lah",
)
"""What may follow a letter that was announced, without a mark between."""

RETRACTS = (
    r"\b(?:wait|forget (?:i said )?(?:that|it)|disregard|ziehe (?:das|es) zurück|never ?mind|withdraw|retract|je retire|retiro|hold on|correction|scratch that|strike that|take that back|on second thoughts?|reconsider(?:ing)?|mistake"
    r"|misread|misspoke|oops|changed? my (?:mind|answer)|my bad|need to correct|correct(?:ing)? (?:this|that|myself|my)"
    r"|let me (?:correct|revise|rethink|re-?evaluate|change)|moment mal|korrektur|attendez|correction|espera|corrección|"
    r"corrijo|подождите|исправ|更正|等等|不对|收回|訂正|잠깐|정정)|^no,|\. no,"
)
"""Takes back what was chosen before."""

CORRECTS = (
    rf"{RETRACTS}|\b(?:but|however|yet|still|so|thus|hence|actually|instead|rather|meant|i mean|on reflection|revised?|final(?:ly)?|updated?|in the end|"
    r"ultimately|sorry|pardon|right|still|eliminat|upon (?:further )?(?:reflection|thought|consideration)|thinking (?:about it )?again|changed|after all|"
    r"correct(?:ed|ion)?|overall|in conclusion|therefore|to conclude|schließlich|letztlich|doch|finalement|en fait|"
    r"al final|en realidad|no entanto|na verdade|alla fine|в итоге|на самом деле|最终|其实|最終的に|やはり|최종|사실)\b"
)
"""Between two choices: the later one counts."""

BUT = (
    r"\b(?:but|however|yet|although|though|aber|doch|jedoch|sondern|mais|pero|sino|mas|porém|ma|però|maar|men|но|однако|ale|lakin|ama)\b"
    r"|但|不过|而是|しかし|ですが|하지만|지만"
)
"""Turns a sentence round."""

TENTATIVE = (
    r"\b(?:at first|initially|at first glance|at first sight|my first (?:thought|instinct|impulse)|first instinct|"
    r"might be|could be|may be|tempted|zuerst|zunächst|auf den ersten blick|d['’]abord|au début|a primera vista|al principio|"
    r"à primeira vista|inizialmente|сначала|起初|一开始|最初|처음에는)\b|起初|一开始|最初は|처음에"
)
"""Says of a sentence that its choice is not the last word."""

IF = (
    r"\bwould have (?:chosen|picked|selected|preferred|gone|said|voted|opted)\b|\b(?:even if|as if|(?<![a-z] )had (?:the|it|this|they|we|you)|if|unless|(?<!i )suppose|supposing|imagine|assuming|were i|had i|wenn|falls|sofern|à moins|si(?= (?:j|je|tu|il|yo|fuera|"
    r"eu|fosse|io))|se eu|se fossi|если|якби|eğer|jika|kalau|nếu|अगर|यदि|jos|jeśli|gdyby|kdyby|ha)\b|如果|假如|若是|もし|만약|لو كنت|إذا"
)
"""Says of a sentence that its choice is for another case than this."""

NOT = (
    r"\b(?:not|never|no|nor|neither|without|refus\w+|doubt\w*|(?:tells?|told|wants?|expects?|urges?|asks?|begs?) me|says? (?:that )?|declin\w+|reject\w*|avoid\w*|hesitat\w+|dis\w+|nobody|none|nicht|kein\w*|nie|niemals|pas|jamais|nunca|jamás"
    r"|não|non|mai|niet|geen|inte|ikke|ei|en voi|nie|ne|nem|nu|değil|hayır|δεν|μη|не|ни|нет|لا|لن|لم|ليس|نه|نمی|नहीं|मत|না|không|tidak|bukan|hindi|si)\b|n['’]t\b"
    r"|不|没|沒|別|别|未|ない|ません|않|아니|안 "
)
"""Turns a choice into its opposite, somewhere before it in its clause."""

NOT_REALLY_IF = (
    r"\bwould have (?:chosen|picked|selected|preferred|gone|said|voted|opted)\b|\b(?:even if|as if|if (?:i|we) (?:must|have to|had to|need to|am to|were to|was to|were forced to|am forced to|could "
    r"only|really have to|absolutely must)(?: (?:choose|pick|select|decide|answer|say|take|make a choice)"
    r"(?: (?:one|just one|only one|between (?:them|these|the (?:two|three|options)))?)?)?|if (?:forced|pressed|asked|pushed|"
    r"you ask me|i'm honest|i am honest|anything|i have it right)|if that(?:'s| is) (?:ok|okay|alright)|wenn ich (?:wählen )?m(?:u|ü)ss(?:te)?|falls ich m(?:u|ü)ss(?:te)?|si (?:je )?(?:devais|dois) choisir"
    r"|si tengo que elegir|si tuviera que elegir)\b|如果(?:一定|必须|必須|非)?(?:要|得)?(?:选|選)(?:择|擇)?(?:一个|一個)?(?:的话)?|もし選ぶなら"
)
"""Conditions that are no other case."""

TAKES_BACK = (
    rf"{RETRACTS}|\b(?:i (?:must |have to |will |would )?(?:decline|refuse|abstain)|(?:not able to|not going to) (?:answer|choose|pick|select|decide)|can['’]?t say\b|nicht entscheiden|(?:i (?:ca(?:n not|nnot|n['’]?t)|won['’]?t|will not|am unable to|refuse to"
    r"|decline to|prefer not to)|i['’](?:m|d) (?:unable to|not able to|rather not)) (?:answer|choose|pick|select|help|assist|comply|participate|decide|take))\b(?! (?:option )?(?-i:[A-Z])\b)"
)
"""After a choice: it does not hold any more."""

DECLINES = (
    r"\b(?:i(?:['’]m| am)? ?(?:must |have to |will |would |do |need to |really |respectfully |just |simply |also )*"
    r"(?:(?:can ?not|can['’]?t|could ?n['’]?o?t|won['’]?t|will not|am unable to|unable to|not able to"
    r"|am not able to|refuse to|decline to|declining to|not going to|not comfortable(?: with)?|do(?:n['’]t| not) feel comfortable"
    r"|am not comfortable|prefer not to|['’]d rather not|would rather not|rather not|must refuse to|am not willing to"
    r"|not willing to|not in a position to|am not in a position to|abstain from|not comfortable|uncomfortable(?: with)?) (?:\w+ly |really |in good conscience |be |even )?"
    r"(?:help|assist|comply|answer|answering|choose|choosing|pick|picking|select|selecting|take (?:a )?(?:side|position|part)"
    r"|participate|provide|engage|respond|make|fulfil?l|continue|role-?play|express|give|support|say|adopt|pretend"
    r"|rank|state|share|judge|favou?r|play|do (?:this|that|so)|able|complete|weigh in|comment|discuss|offer|impersonate)"
    r"(?! (?:option |answer )?(?-i:[A-Z])\b(?! ?(?:,|or|and|nor)))"
    r"|decline|refuse|abstain|pass on this|want to skip|['’]d like to skip|would like to skip)\b"
    r"|ich (?:kann|möchte|werde|will) (?:\w+,? ){0,8}?(?:nicht|keine?n?) (?:\w+,? ){0,8}?(?:helfen|beantworten|antworten|wählen"
    r"|unterstützen|weiterhelfen|entscheiden|treffen|teilnehmen|äußern)|ich weigere mich|je (?:ne (?:peux|puis|suis|souhaite|vais|veux)"
    r"|refuse)|no (?:puedo|quiero|voy a|podré) (?:ayudar|responder|elegir|asistir|escoger|seleccionar|participar)|me niego|prefiero no"
    r"|não (?:posso|vou|quero) (?:ajudar|responder|escolher|selecionar)|recuso|non posso (?:aiutar|rispondere|scegliere)|mi rifiuto"
    r"|preferisco non|не (?:могу|буду|хочу) (?:помочь|ответить|выбрать|выбирать|отвечать|помогать)|отказываюсь|не можу|відмовляюся"
    r"|ik (?:kan|wil|zal) (?:\w+ ){0,5}(?:niet|geen)|jag (?:kan|vill) (?:tyvärr )?inte|jeg kan (?:desværre |dessverre )?ikke|en voi"
    r"|nie (?:mogę|będę|chcę) (?:pomóc|odpowiedzieć|wybrać|wybierać)|odmawiam|nemohu|nemůžu|nem (?:tudok|kívánok|szeretnék)|nu pot"
    r"|refuz să|yardımcı olamam|cevap veremem|seçemem|yapamam|tidak (?:dapat|bisa|boleh) (?:memilih|menjawab|membantu)|tôi không thể"
    r"|hindi ako|siwezi|δεν μπορώ)"
    r"|我(?:无法|無法|不能|不会|拒绝|拒絕|不便|不愿)|お答えできません|お手伝いできません|選べません|選ぶことはできません|お断り|답변(?:할|드릴) 수 없"
    r"|선택할 수 없|도와드릴 수 없|고를 수 없|거부|لا (?:أستطيع|يمكنني)|أرفض|نمی.?توانم|אינני יכול|לא יכול|चुन नहीं सकत|नहीं दे सकत"
    r"|নির্বাচন করতে পারি না|ไม่สามารถ"
)
"""A respondent who will not answer."""

DISCLAIMS = (
    r"\b(?:as an? (?:ai|artificial|large language|language model)|i(?:['’]m| am) (?:just |only )?an? (?:ai|language model|assistant)"
    r"|i (?:do not|don['’]t) (?:have|hold|possess) (?:any )?(?:personal|opinions?|preferences?|beliefs|views|feelings)"
    r"|(?:against|violates?) (?:my|our|the) (?:guidelines|policy|policies|programming|principles)|guidelines do(?:n['’]t| not) allow"
    r"|(?:this|that|the) (?:request|question) (?:violates|is (?:inappropriate|against|harmful))|not (?:be )?appropriate for me to"
    r"|would(?:n['’]t| not) be (?:right|appropriate) for me|can['’]t help with that|je préfère ne pas|prefiero no|não tenho opiniões|kan jag inte"
    r"|which i (?:can['’]?t|cannot|won['’]t) do|declined|refused|no comment|als (?:ki|ai|künstliche|sprachmodell)"
    r"|en tant qu['’](?:ia|intelligence|assistant)|lo siento[,.]? pero|como (?:ia|modelo|una ia|un modelo|inteligencia)|desculpe,? mas"
    r"|in quanto (?:ia|intelligenza|modello)|mi dispiace,? ma|как (?:у )?(?:ии|языковая модель|искусственный)|som (?:en )?(?:ai|språkmodell)"
    r"|jako (?:ai|model językowy)|yapay zek[aâ]|sebagai (?:ai|model bahasa|kecerdasan)|là (?:một )?(?:ai|mô hình|trí tuệ)"
    r"|mint (?:ai|mesterséges)|maaf,? saya|es tut mir leid)\b"
    r"|抱歉|对不起|對不起|作为(?:一个|一名)?(?:ai|人工智能|语言模型)|申し訳(?:ありません|ございません)|aiとして|죄송(?:합니다|하지만)|ai(?:이므로|로서)"
    r"|एआई के रूप में|দুঃখিত|আমি একটি এআই|آسف|عذر|بصفتي|माफ़? ?करें|क्षमा करें|मुझे खेद|ขออภัย|ขอโทษ|מצטער"
)
"""A respondent who has no answer to give, such as one that says that it is a program."""

EXAMPLE = r"\b(?:format|example|e\.g\.|for instance|such as|template|schema|placeholder|z\. ?b\.|beispiel|exemple|ejemplo)\b|例如|格式"
"""Says of a sentence that it shows how an answer could look."""

BY_OTHERS = (
    r"\b(?:people|others|someone|somebody|anyone|anybody|everyone|everybody|many|most|some|few|they|he|she|critics|neighbou?rs?|"
    r"majority|crowd|opponents|friends?|he['’]d|she['’]d|they['’]d)\b (?:\w+ ){0,2}$"
)
"""Before a predicate or a verb: whoever chooses is somebody else."""
