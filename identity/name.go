package identity

import (
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/ipuka/ipuka/internal/errs"
)

// maxLogin is the length of the longest login, in bytes.
const maxLogin = 39

// reserved are the words that the console and the API need for themselves, since
// the pages of an organization are at /{org}/… and its API at /api/…/{org}.
var reserved = []string{
	"account", "anonymous", "api", "assets", "audit", "claim", "cli-login", "debug", "default", "email",
	"healthz", "invite", "ipuka", "login", "logout", "metrics", "new", "none", "oauth", "oidc",
	"organization", "organizations", "orgs", "password", "readyz", "saml", "scim",
	"settings", "setup", "signin", "signout", "signup", "site", "sso", "static",
	"system", "token", "tokens", "user", "users", "welcome", "well-known",
}

// ValidLogin returns nil when name may be a user's login, and otherwise an
// errs.Invalid whose text states the grammar. It does not say whether it is taken.
func ValidLogin(name string) error {
	return validName(name, "a login")
}

// ValidOrganization is [ValidLogin] for the name of an organization. One word more
// is reserved: "admin", a usual login of administrators, is a page of the console.
func ValidOrganization(name string) error {
	if err := validName(name, "an organization's name"); err != nil {
		return err
	}
	if fold(name) == "admin" {
		return errReserved(name)
	}
	return nil
}

func validName(name, what string) error {
	if !grammatical(name) {
		return errs.Errorf(errs.Invalid, "%s has 1 to %d letters (a-z, A-Z), digits, \"_\" and \"-\", and begins with a letter or digit", what, maxLogin)
	}
	if slices.Contains(reserved, fold(name)) {
		return errReserved(name)
	}
	return nil
}

func errReserved(name string) error {
	return errs.Errorf(errs.Invalid, "%q is a reserved word, choose another name", name)
}

func grammatical(name string) bool {
	if name == "" || len(name) > maxLogin || name[0] == '_' || name[0] == '-' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// fold returns the form under which a grammatical name is unique. Names are ASCII,
// so no rule of Unicode can make two names equal that do not look it.
func fold(name string) string { return strings.ToLower(name) }

// maxEmail is the length of the longest e-mail address: RFC 5321 §4.5.3.1.3, as
// corrected by erratum 1690.
const maxEmail = 254

// CanonicalEmail returns the one form of an e-mail address that is stored, compared
// and counted by: all of it in lower case. Whatever two readers could read
// differently is errs.Invalid: more than one "@", quoted local parts, comments,
// white space, line breaks, and all that is not ASCII (full-width letters, and
// letters that fold to others in some language). A domain is a list of two or more
// host name labels (RFC 1123 §2.1); one of another script is written in its ASCII
// form (xn--…). The local part is a dot-atom (RFC 5322 §3.2.3); its case is ignored,
// as mail systems do.
func CanonicalEmail(address string) (string, error) {
	local, domain, found := strings.Cut(address, "@")
	if !found || len(address) > maxEmail || !dotAtom(local) || !hostName(domain) {
		return "", errs.Errorf(errs.Invalid, "the e-mail address must look like name@example.com: ASCII characters only, at most %d", maxEmail)
	}
	return strings.ToLower(address), nil
}

func dotAtom(local string) bool {
	if len(local) > 64 {
		return false
	}
	for atom := range strings.SplitSeq(local, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if !alphanumeric(atom[i]) && !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", rune(atom[i])) {
				return false
			}
		}
	}
	return true
}

func hostName(domain string) bool {
	labels := strings.Split(domain, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if !alphanumeric(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	top := labels[len(labels)-1]
	return len(labels) >= 2 && !strings.ContainsAny(top[:1], "0123456789") // the last label is not a number's
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// suggestLogin returns the base of a login for somebody whom a provider calls login,
// or who has an address; it need not be free, nor allowed.
func suggestLogin(login, address string) string {
	for _, text := range []string{login, address} {
		local, _, _ := strings.Cut(text, "@")
		if name := grammaticalFrom(local, maxLogin); name != "" {
			return name
		}
	}
	return "member"
}

// grammaticalFrom makes a name of up to limit bytes that has the grammar of a login
// from text: letters lose their accents, everything else becomes "-". It is empty
// when text has no letter or digit that can be kept.
func grammaticalFrom(text string, limit int) string {
	if len(text) > 8*limit {
		text = text[:8*limit]
	}
	var out []byte
	for _, c := range norm.NFKD.String(strings.ToValidUTF8(text, "")) {
		switch {
		case unicode.Is(unicode.Mn, c):
		case c < 0x80 && (alphanumeric(byte(c)) || c == '_'):
			out = append(out, byte(c))
		case len(out) > 0 && out[len(out)-1] != '-':
			out = append(out, '-')
		}
	}
	name := strings.TrimLeft(string(out), "_-")
	return strings.TrimRight(name[:min(len(name), limit)], "-")
}

// nameChoices are what a name may become when it is taken: base, base-2, base-3, ...
// and at last one that nobody has guessed.
func nameChoices(base string, limit int) []string {
	const numbered = 50
	choices := make([]string, 0, numbered+1)
	choices = append(choices, base[:min(len(base), limit)])
	with := func(suffix string) {
		choices = append(choices, strings.TrimRight(base[:min(len(base), limit-len(suffix))], "-")+suffix)
	}
	for n := 2; n <= numbered; n++ {
		with("-" + strconv.Itoa(n))
	}
	with("-" + strings.ToLower(rand.Text()[:8]))
	return choices
}
