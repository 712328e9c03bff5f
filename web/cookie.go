package web

import (
	"net/http"
	"time"

	"github.com/ipuka/ipuka/internal/sealed"
)

// boxes seal what browsers keep for the console, one box for each purpose, so that
// nothing that was sealed for one opens as another.
type boxes struct {
	flow   *sealed.Box // see flow
	half   *sealed.Box // see half
	signUp *sealed.Box // see pendingSignUp
}

func newBoxes(key []byte) (b boxes, err error) {
	for purpose, box := range map[string]**sealed.Box{"console flows": &b.flow, "console second factor": &b.half, "console sign-up": &b.signUp} {
		if *box, err = sealed.New(key, purpose); err != nil {
			return boxes{}, err
		}
	}
	return b, nil
}

// cookieName returns a cookie's name, "" for the session's. The prefix makes browsers
// refuse one that another host, or an unencrypted page, has set.
func (c *Console) cookieName(name string) string {
	if name != "" {
		name = "-" + name
	}
	if c.secure {
		return "__Host-ipuka" + name
	}
	return "ipuka" + name
}

// cookieValue returns what the browser keeps under a name, or "". Two cookies of the
// name are none: one of them was set by somebody else.
func (c *Console) cookieValue(r *http.Request, name string) string {
	cookies := r.CookiesNamed(c.cookieName(name))
	if len(cookies) != 1 {
		return ""
	}
	return cookies[0].Value
}

// setCookie has the browser keep a value for a time, or with 0 until it is closed.
func (c *Console) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, c.cookie(name, value, int(life/time.Second)))
}

func (c *Console) dropCookie(w http.ResponseWriter, name string) {
	http.SetCookie(w, c.cookie(name, "", -1))
}

func (c *Console) cookie(name, value string, age int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // not Secure on plain http only, which New takes for loopback hosts alone
		Name: c.cookieName(name), Value: value, Path: "/", MaxAge: age,
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
}
