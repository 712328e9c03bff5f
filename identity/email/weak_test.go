package email_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ipuka/ipuka/identity/email"
	"github.com/ipuka/ipuka/internal/errs"
)

func TestWeakPasswords(t *testing.T) {
	for _, password := range []string{
		"password1234", "Password123!", "P@ssw0rd2024", "passwordpassword", "PASSWORD PASSWORD", "welcome2026!!", "Willkommen2025", "letmeinplease", "administrator1",
		"qwertyuiop12", "qwertzuiop123", "1q2w3e4r5t6y", "1qaz2wsx3edc", "zaq12wsxcde3", "asdfghjkl123", "azertyuiop123", "1234567890ab", "123456789012", "987654321012",
		"abcdefghijkl", "abcabcabcabc", "aaaaaaaaaaaa", "ababababababab", "111111222222", "000000000000", "qwerty123456", "qwerty qwerty",
		"iloveyou1234", "iloveyou!!!!!!", "monkeydragon1", "Summer2024!!", "Sommer2024!!", "football1999", "ipukaipuka12", "Ipuka-2026-!", "pulumi123456",
		"bob.builder1", "bobbuilder12", "Builder12345", "corporation12", "BobCorporation!",
		"changeme1234", "trustno1trustno1", "fuckyoufuckyou", "admin1234admin", "root12345678", "éééééééééééé", strings.Repeat("password", 32),
	} {
		if err := email.ValidPassword(password, "bob", "bob.builder@corporation.com"); errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), "easy to guess") {
			t.Errorf("%s: %v", password, err)
		}
	}
	for _, password := range []string{
		good, another, "tr0ub4dor&3xy", "kHb7!qPz#2Lm", "xkcdcomic936ok", "vier Lampen am Hafen", "9fj3k20dl4mq", "orange moped lunch", "мой дядя самых честных", "日本語のパスワードですよね",
		"3141592653589793", "bob likes marmalade", "password is not a good one at all",
	} {
		if err := email.ValidPassword(password, "bob", "bob.builder@corporation.com"); err != nil {
			t.Errorf("%s: %v", password, err)
		}
	}
}

func TestLongestWord(t *testing.T) {
	longest := 0
	for word := range email.Words() {
		longest = max(longest, len(word))
		if len(word) < 4 || word != strings.ToLower(word) {
			t.Errorf("%q is never found", word)
		}
	}
	if longest > email.LongestWord {
		t.Errorf("the longest word has %d letters", longest)
	}
}

// However long, a word and what is easy to type beside it do not make a password.
func TestWeakProperty(t *testing.T) {
	var words []string
	for word := range email.Words() {
		words = append(words, word)
	}
	rapid.Check(t, func(t *rapid.T) {
		password := ""
		for range rapid.IntRange(1, 2).Draw(t, "words") {
			word := rapid.SampledFrom(words).Draw(t, "word")
			password += strings.Repeat(word, rapid.IntRange(1, 3).Draw(t, "times"))
			if rapid.Bool().Draw(t, "upper") {
				password = strings.ToUpper(password)
			}
		}
		password += rapid.SampledFrom([]string{"", "!", "1", "123", "1234567", "2024"}).Draw(t, "end")
		if !email.Weak(password) {
			t.Fatalf("%s is taken", password)
		}
	})
}

func TestJudgingAPasswordIsQuick(t *testing.T) {
	for _, text := range []string{strings.Repeat("a", 256), strings.Repeat("ab", 128), strings.Repeat("1qaz", 64), strings.Repeat("password", 32)} {
		began := time.Now()
		email.Weak(text)
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("%.20s… took %s", text, took)
		}
	}
}
