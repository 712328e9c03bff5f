package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"

	"github.com/ipuka/ipuka/identity"
)

// purpose is what a browser has been sent to a provider for.
type purpose string

const (
	toSignIn  purpose = "signin"
	toLink    purpose = "link"  // one identity more for who is signed in
	toConfirm purpose = "again" // that it is still who signed in
	toTest    purpose = "test"  // for an administrator to see what the provider says
)

// flow is a browser's way to a provider and back. It is kept in a sealed cookie of
// that browser and nowhere else: what comes back is taken from the browser that was
// sent only, which is what stops the forging of sign-ins (RFC 6749 §10.12).
type flow struct {
	identity.Flow
	Connector string
	Purpose   purpose
	ReturnTo  string
	// Who was signed in when it began, if anybody.
	UserID, SessionID string
}

// A browser may be under way several times, in several tabs. Beyond these bounds the
// oldest flow is given up, since servers refuse requests with long headers.
const (
	maxFlows      = 5
	maxFlowCookie = 6 << 10
)

// newFlow returns a flow that begins now.
func (c *Console) newFlow(v *visit, connector, callback string, p purpose, to string) flow {
	f := flow{Connector: connector, Purpose: p, ReturnTo: to, UserID: v.who.UserID, SessionID: v.who.SessionID}
	f.Flow = identity.Flow{
		State: randomText(), Nonce: randomText(), Verifier: randomText(), Request: requestID(), Callback: callback,
		Fresh: p == toConfirm, Expires: c.config.Now().Add(identity.FlowLife).UTC(),
	}
	return f
}

// randomText returns 256 random bits.
func randomText() string {
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program first
	return base64.RawURLEncoding.EncodeToString(raw)
}

// requestID returns an xs:ID, which must not begin with a digit.
func requestID() string {
	raw := make([]byte, 20)
	_, _ = rand.Read(raw)
	return "_" + hex.EncodeToString(raw)
}

const flowCookie = "flow-"

// flowCookieName finds the cookie of a flow by its state, which it does not tell.
func flowCookieName(state string) string {
	sum := sha256.Sum256([]byte(state))
	return flowCookie + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// keepFlow has the browser keep f. A provider that answers with a POST from its own
// site needs a cookie that browsers send along with that. They do so for sites that are
// encrypted, and those of their own machine count as such.
func (c *Console) keepFlow(w http.ResponseWriter, r *http.Request, f flow, crossSite bool) error {
	text, err := c.boxes.flow.SealText(f)
	if err != nil {
		return err
	}
	c.makeRoom(w, r, len(text))
	cookie := c.cookie(flowCookieName(f.State), text, int(identity.FlowLife.Seconds())) //nolint:gosec // has what Console.cookie gives every cookie
	if crossSite {
		cookie.SameSite, cookie.Secure = http.SameSiteNoneMode, true
	}
	http.SetCookie(w, cookie)
	return nil
}

// makeRoom gives up the oldest flows of the browser until one more fits, and all that
// have come to nothing.
func (c *Console) makeRoom(w http.ResponseWriter, r *http.Request, more int) {
	type open struct {
		name string
		size int
		flow flow
	}
	var all []open
	for _, cookie := range r.Cookies() {
		name, ours := strings.CutPrefix(cookie.Name, c.cookieName(flowCookie))
		if !ours {
			continue
		}
		var f flow
		if c.boxes.flow.OpenText(cookie.Value, &f) != nil || !c.config.Now().Before(f.Expires) {
			c.dropCookie(w, flowCookie+name)
			continue
		}
		all = append(all, open{flowCookie + name, len(cookie.Value), f})
		more += len(cookie.Value)
	}
	slices.SortFunc(all, func(a, b open) int {
		return cmp.Or(a.flow.Expires.Compare(b.flow.Expires), cmp.Compare(a.name, b.name))
	})
	for len(all) > 0 && (len(all) >= maxFlows || more > maxFlowCookie) {
		c.dropCookie(w, all[0].name)
		more -= all[0].size
		all = all[1:]
	}
}

// The reasons for which what a browser brings back is refused before the connector
// has seen it.
const (
	flowUnknown   = "flow_unknown"   // this browser was not sent, or too long ago to remember
	flowExpired   = "flow_expired"   // it took longer than identity.FlowLife
	flowConnector = "flow_connector" // it was sent to another provider
	flowSession   = "flow_session"   // who was signed in then is not any more
	otherAccount  = "other_account"  // somebody else has come back to confirm who they are
)

// takeFlow returns the flow with a state that the browser was sent to a connector
// with, and has it forget the flow. Otherwise it returns the reason of the refusal.
func (c *Console) takeFlow(w http.ResponseWriter, r *http.Request, state, connector string) (flow, string) {
	name := flowCookieName(state)
	value := c.cookieValue(r, name)
	if state == "" || value == "" {
		return flow{}, flowUnknown
	}
	var f flow
	if c.boxes.flow.OpenText(value, &f) != nil || subtle.ConstantTimeCompare([]byte(f.State), []byte(state)) != 1 {
		return flow{}, flowUnknown
	}
	if f.Connector != connector {
		return f, flowConnector
	}
	c.dropCookie(w, name)
	if !c.config.Now().Before(f.Expires) {
		return f, flowExpired
	}
	return f, ""
}

// holder returns who began f, if that session still goes on. Browsers do not send the
// session's cookie with a form from another site; then the flow's own, which only that
// browser has, stands for it.
func (c *Console) holder(ctx context.Context, v *visit, f flow) (identity.Principal, bool, error) {
	switch {
	case f.SessionID == "":
		return identity.Principal{}, false, nil
	case v.in:
		return v.who, v.who.SessionID == f.SessionID, nil
	case v.r.Method != http.MethodPost:
		return identity.Principal{}, false, nil
	}
	sessions, err := c.config.Directory.Sessions(ctx, f.UserID)
	if err != nil {
		return identity.Principal{}, false, err
	}
	for _, s := range sessions {
		if s.ID != f.SessionID {
			continue
		}
		user, err := c.config.Directory.User(ctx, f.UserID)
		if err != nil {
			return identity.Principal{}, false, err
		}
		p := user.Principal(s.Connector)
		p.SessionID, p.SignedIn, p.ManagedBy = s.ID, s.Created, user.ManagedBy
		return p, true, nil
	}
	return identity.Principal{}, false, nil
}
