package state

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// leaseScheme precedes the lease token in the Authorization header.
const leaseScheme = "update-token "

func hashLease(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}

// leaseToken returns the lease token of r's header, or "".
func leaseToken(r *http.Request) string {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), leaseScheme)
	if !ok {
		return ""
	}
	return strings.TrimSpace(token)
}

// leased returns the update that r is about, if r carries the token of its lease, and
// the time. Every way in which the token can be wrong is errs.Forbidden and looks the
// same: a client takes 401 for being logged out, in the middle of an update. Whether
// the lease still holds is for the caller to ask.
func (s *Server) leased(r *http.Request) (update, time.Time, error) {
	return s.leasedBy(r, leaseToken(r))
}

func (s *Server) leasedBy(r *http.Request, token string) (update, time.Time, error) {
	ref, err := refOf(r)
	if err != nil {
		return update{}, time.Time{}, err
	}
	if token == "" {
		return update{}, time.Time{}, errs.Errorf(errs.Forbidden, "this call needs the token that the update was given at its start")
	}
	u, owner, err := s.store.leased(r.Context(), r.PathValue("update"))
	if err != nil && !isNotFound(err) {
		return update{}, time.Time{}, err
	}
	if subtle.ConstantTimeCompare(u.lease, hashLease(token)) != 1 || owner != ref {
		return update{}, time.Time{}, errs.Errorf(errs.Forbidden, "the update token is not the one of this update of this stack")
	}
	now, err := s.clock.now(r.Context())
	return u, now, err
}

// writable refuses what would add to an update that takes nothing more.
func (u update) writable(now time.Time) error {
	switch {
	case u.status != running && u.status != cancelling:
		return u.over()
	case !now.Before(u.expires):
		return errs.Errorf(errs.Forbidden, "the lease of the update expired at %s, what it did until then is kept", u.expires.Format(time.RFC3339))
	}
	return nil
}

// recordable is writable for calls that change the state: previews have none.
func (u update) recordable(now time.Time) error {
	if u.preview {
		return errs.Errorf(errs.Forbidden, "a preview does not change the state of its stack")
	}
	return u.writable(now)
}

// renewLease extends a lease. The token stays the same and only its expiry moves:
// journal entries and events are under way while a client renews, and a token that
// died at that moment would fail the update.
func (s *Server) renewLease(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	var body struct {
		Token    string `json:"token"`
		Duration int64  `json:"duration"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Small, &body); err != nil {
		return err
	}
	token := leaseToken(r)
	if token == "" {
		token = body.Token // clients of an API level below 5
	}
	u, now, err := s.leasedBy(r, token)
	if err != nil {
		return err
	}
	if body.Duration < 0 || body.Duration > int64(longestRenewal/time.Second) {
		return errs.Errorf(errs.Invalid, "the duration of a lease is 0 to %d seconds", int64(longestRenewal/time.Second))
	}
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		if u, err = s.store.lockUpdate(ctx, u.id); err != nil {
			return err
		}
		if u.status == cancelling || u.status == cancelled {
			return errs.Errorf(errs.Forbidden, "the update was %s", u.note)
		}
		if err := u.writable(now); err != nil {
			return err
		}
		u.expires = now.Add(s.lease)
		return s.store.saveUpdate(ctx, u)
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Token           string `json:"token"`
		TokenExpiration int64  `json:"tokenExpiration"`
	}{token, u.expires.Unix()})
	return nil
}
