package proxy

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/sealed"
)

// updatePrefix makes sealed update tokens recognisable to secret scanners.
const updatePrefix = "ipu_"

// envelopeGrace is how long an envelope outlives the lease inside it. Whether the
// lease is alive is for the state service alone to say; the envelope's own expiry
// only bounds how long a stolen one is worth trying. A repeated complete comes
// within it.
const envelopeGrace = time.Hour

// updateToken is what the sealed token of an update holds: the state service's
// lease token, and what it is good for and on whose behalf.
type updateToken struct {
	Lease        string    `json:"lease"`
	UserID       string    `json:"user"`
	Login        string    `json:"login"`
	Name         string    `json:"name"`
	TokenID      string    `json:"tid,omitempty"`
	TokenName    string    `json:"tname,omitempty"`
	Organization string    `json:"org"` // its ID
	Project      string    `json:"project"`
	Stack        string    `json:"stack"`
	Update       string    `json:"update"`
	Expires      time.Time `json:"exp"`
}

func (g *Gate) sealUpdate(t updateToken) (string, error) {
	text, err := g.updates.SealText(t)
	return updatePrefix + text, err
}

// openUpdate returns what is sealed in token, which must be for exactly the update
// that the request path names.
func (g *Gate) openUpdate(token string, c *call) (updateToken, error) {
	var t updateToken
	text, ok := strings.CutPrefix(token, updatePrefix)
	if !ok {
		return t, sealed.ErrOpen
	}
	if err := g.updates.OpenText(text, &t); err != nil {
		return t, err
	}
	if time.Now().After(t.Expires) {
		return t, errors.New("expired")
	}
	if t.Organization != c.org.ID || t.Project != c.object.Project || t.Stack != c.object.Stack || t.Update != c.names["update"] {
		return t, fmt.Errorf("for another update")
	}
	return t, nil
}
