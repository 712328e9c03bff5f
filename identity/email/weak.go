package email

import (
	"slices"
	"strings"
	"unicode"
)

// A password is judged by the parts that a guesser tries first, and not by classes of
// characters: an ordinary word, the account's own names, a year, a run along the
// keyboard or the alphabet and a repetition count as one part, however long they are,
// and any other character as one. That needs no list of leaked passwords, which a
// minimum of twelve characters makes short in any case: what is left of such lists are
// mostly these patterns.
const minParts = 6

// weak reports whether a password has fewer than minParts parts. own are names that
// its owner's acquaintances know.
func weak(password string, own ...string) bool {
	text := []rune(strings.ToLower(password))
	plain := make([]rune, len(text))
	for i, r := range text {
		if plain[i] = r; lookalikes[r] != 0 {
			plain[i] = lookalikes[r]
		}
	}
	for i, word := range own {
		own[i] = strings.ToLower(word)
	}
	// parts[i] is the least number of parts of the first i characters.
	parts := make([]int, len(text)+1)
	for i := range parts {
		parts[i] = i
	}
	reach := func(from, to int) {
		if parts[from]+1 < parts[to] {
			parts[to] = parts[from] + 1
		}
	}
	for i := range text {
		if i > 0 {
			reach(i-1, i)
		}
		for n := run(text[i:]); n >= 3; n-- {
			reach(i, i+n)
		}
		for n := repetition(text, i); n >= 2; n-- {
			reach(i, i+n)
		}
		if year(text[i:]) {
			reach(i, i+4)
		}
		for _, word := range own {
			if n := prefix(text[i:], word); n >= 3 {
				reach(i, i+n)
			}
		}
		for n := 4; n <= longestWord && i+n <= len(text); n++ {
			if words[string(text[i:i+n])] || words[string(plain[i:i+n])] {
				reach(i, i+n)
			}
		}
	}
	reach(len(text)-1, len(text))
	return parts[len(text)] < minParts
}

// lookalikes are what people write for letters.
var lookalikes = map[rune]rune{
	'0': 'o', '1': 'i', '3': 'e', '4': 'a', '5': 's', '7': 't', '8': 'b', '@': 'a', '$': 's', '!': 'i', '€': 'e', '|': 'l',
}

// walks are how fingers run over a keyboard (of the English, German and French kind)
// and children through the alphabet, forwards and backwards.
var walks = func() (all []string) {
	for _, walk := range []string{
		"abcdefghijklmnopqrstuvwxyz", "01234567890-=", "!@#$%^&*()_+", "!\"§$%&/()=?",
		"qwertyuiop[]", "asdfghjkl;'", "zxcvbnm,./", "qwertzuiop", "yxcvbnm,.-", "azertyuiop", "qsdfghjklm", "wxcvbn",
		"1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/", "qazwsxedcrfvtgbyhnujm", "zaq1xsw2cde3vfr4bgt5nhy6mju7", "zaq12wsx", "1234qwerasdfzxcv",
		"1q2w3e4r5t6z7u8i9o0p", "1q2w3e4r5t6y7u8i9o0p", "q1w2e3r4t5y6u7i8o9p0", "a1b2c3d4e5f6g7h8", "1a2b3c4d5e6f7g8h", "a1s2d3f4g5h6j7k8l9",
	} {
		backwards := []rune(walk)
		slices.Reverse(backwards)
		all = append(all, walk, string(backwards))
	}
	return all
}()

// run returns how many of the first characters of text are part of one walk.
func run(text []rune) int {
	n := 1
	for n < len(text) && walked(string(text[:n+1])) {
		n++
	}
	return n
}

func walked(part string) bool {
	return slices.ContainsFunc(walks, func(walk string) bool { return strings.Contains(walk, part) })
}

// repetition returns how many characters from i on repeat what is just before them.
func repetition(text []rune, i int) (longest int) {
	for period := 1; period <= i && period <= 32; period++ {
		n := 0
		for i+n < len(text) && text[i+n] == text[i+n-period] {
			n++
		}
		longest = max(longest, n)
	}
	return longest
}

// year reports whether text begins with a year that somebody alive may care about.
func year(text []rune) bool {
	return len(text) >= 4 && (text[0] == '1' && text[1] == '9' || text[0] == '2' && text[1] == '0') && unicode.IsDigit(text[2]) && unicode.IsDigit(text[3])
}

// prefix returns the length of word if text begins with it, in characters.
func prefix(text []rune, word string) int {
	w := []rune(word)
	if len(w) > len(text) || string(text[:len(w)]) != word {
		return 0
	}
	return len(w)
}

// ownNames are the names in a login and an address.
func ownNames(login, address string) []string {
	local, domain, _ := strings.Cut(address, "@")
	names := []string{login, address, local, domain}
	for _, name := range []string{login, local, domain} {
		names = append(names, strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("._-+", r) })...)
	}
	return names
}

// longestWord is the length of the longest of the words.
const longestWord = 13

// words are what guessers put together: what people call passwords, the product and
// its neighbours, and first names, seasons, animals, teams and sweet words of the
// usual kind.
var words = func() map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(`
		pass password passwort passwd passphrase passcode motdepasse contrasena wachtwoord secret geheim login logon
		access admin administrator root user superuser guest owner master manager operator welcome willkommen bienvenue
		hello hallo letmein open please bitte enter default changeme change temp temporary test testing tester demo sample
		ipuka pulumi console cloud stack deploy deployment server service system database backup network internet computer
		company firma office work team devops engineer developer github gitlab google amazon azure microsoft windows linux
		docker kubernetes terraform apple samsung oracle cisco security secure private public
		qwerty qwertz azerty asdf asdfgh zxcvbn
		love iloveyou loveyou lovely baby babygirl angel princess prince sunshine sweetheart darling honey sugar candy
		flower butterfly rainbow cookie chocolate cheese banana orange lemon cherry coffee pepper ginger
		dragon monkey tiger lion panther eagle falcon shadow phoenix wolf dolphin horse buster puppy kitty kitten snoopy
		summer winter spring autumn sommer herbst monday tuesday wednesday thursday friday saturday sunday january february
		march april june july august september october november december
		football soccer baseball basketball hockey tennis golf liverpool arsenal chelsea barcelona juventus madrid
		batman superman spiderman starwars pokemon naruto matrix hunter killer ninja warrior ranger knight wizard
		michael jennifer jessica ashley daniel thomas robert andrew joshua matthew george charlie jordan maggie michelle
		nicole hannah amanda anthony william richard david james john mary anna peter paul mark steven
		money dollar power happy lucky forever freedom friend family mother father jesus christ heaven america germany
		france england london paris berlin super cool fuck fucker fuckyou shit asshole trustno
	`) {
		set[word] = true
	}
	return set
}()
