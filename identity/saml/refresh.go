package saml

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/ipuka/ipuka/identity"
	"github.com/ipuka/ipuka/internal/database"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/outbound"
)

// fetchEvery is how often a descriptor is fetched from its address, retryAfter how soon
// again after a failure.
const (
	fetchEvery = 24 * time.Hour
	retryAfter = time.Hour
	lookEvery  = 10 * time.Minute
	fetchBatch = 50
)

// Run fetches descriptors from their addresses every day, until ctx ends. A descriptor
// that cannot be had, or is not acceptable, changes nothing: the old one stays, and
// the settings have a warning. Replicas share the work.
func (p *Provider) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		_ = p.Refresh(ctx) // the next turn tries again
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Refresh fetches the descriptors that are due.
func (p *Provider) Refresh(ctx context.Context) error {
	now, err := p.clock(ctx)
	if err != nil {
		return err
	}
	rows, err := p.store.due(ctx, database.Micros(now), fetchBatch)
	if err != nil {
		return err
	}
	for _, row := range rows {
		mine, err := p.store.claim(ctx, row, database.Micros(now.Add(retryAfter)))
		if err != nil {
			return err
		}
		if !mine {
			continue
		}
		failure := p.refresh(ctx, row, now)
		if err := ctx.Err(); err != nil {
			return err
		}
		if failure == nil || errs.KindOf(failure) == errs.Conflict { // somebody has just changed it
			continue
		}
		text := errs.Public(failure)
		if text == "" {
			return failure
		}
		if err := p.store.noteFetch(ctx, row, database.Micros(now.Add(retryAfter)), text); err != nil {
			return err
		}
	}
	return nil
}

// refresh fetches one descriptor. Certificates may change, which is on record; the
// identity provider may not.
func (p *Provider) refresh(ctx context.Context, row providerRow, now time.Time) error {
	text, err := p.fetch(ctx, row.DescriptorURL)
	if err != nil {
		return err
	}
	next := database.Micros(now.Add(fetchEvery))
	if string(text) == row.Descriptor {
		return p.store.noteFetch(ctx, row, next, "")
	}
	d, err := parseDescriptor(text)
	if err != nil {
		return err
	}
	if err := p.acceptable(d, now); err != nil {
		return err
	}
	old, err := parseDescriptor([]byte(row.Descriptor))
	if err != nil {
		return errs.Wrap(errs.Internal, err, "")
	}
	if d.EntityID != old.EntityID {
		return invalid("the address has a descriptor of another identity provider now: %s", d.EntityID)
	}
	o, err := p.directory.OrganizationByID(ctx, row.OrganizationID)
	if errs.KindOf(err) == errs.NotFound { // deleted, and perhaps restored one day
		return p.store.noteFetch(ctx, row, next, "")
	}
	if err != nil {
		return err
	}
	after := row
	after.Descriptor, after.NextFetch, after.FetchError, after.Updated = string(text), next, "", database.Micros(now)
	return p.db.Tx(ctx, func(ctx context.Context) error {
		if err := p.store.save(ctx, after); err != nil {
			return err
		}
		if same(d, old) {
			return nil
		}
		return p.record(ctx, identity.Principal{}, o, row, after)
	})
}

// same reports whether two descriptors mean the same here.
func same(a, b Descriptor) bool {
	if a.SSOURL != b.SSOURL || a.Binding != b.Binding || len(a.Certificates) != len(b.Certificates) {
		return false
	}
	for i := range a.Certificates {
		if a.Certificates[i].Fingerprint != b.Certificates[i].Fingerprint {
			return false
		}
	}
	return true
}

// fetch returns the descriptor at an address. What is wrong is errs.Unprocessable in
// words that tell nothing of the network behind us.
func (p *Provider) fetch(ctx context.Context, address string) ([]byte, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || len(address) > 2048 {
		return nil, invalid("the address of a descriptor begins with https:// and has no password in it")
	}
	u.Fragment = ""
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, invalid("the address of a descriptor begins with https:// and has no password in it")
	}
	r.Header.Set("Accept", "application/samlmetadata+xml, application/xml;q=0.9, text/xml;q=0.8")
	answer, err := p.client.Do(r)
	if err != nil {
		return nil, unfetched(err)
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return nil, errs.Errorf(errs.Unprocessable, "the address of the descriptor answers with status %d, and redirects are not followed", answer.StatusCode)
	}
	if kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type")); kind == "text/html" {
		return nil, errs.Errorf(errs.Unprocessable, "the address of the descriptor answers with a web page")
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxDescriptor+1))
	if err != nil {
		return nil, unfetched(err)
	}
	return text, nil
}

func unfetched(err error) error {
	switch {
	case errors.Is(err, outbound.ErrAddress):
		return errs.Wrap(errs.Unprocessable, err, "the address of the descriptor is not one that this server may reach")
	case errors.Is(err, outbound.ErrTooLarge):
		return errs.Wrap(errs.Unprocessable, err, "the answer of the descriptor's address is too large")
	}
	return errs.Wrap(errs.Unprocessable, err, "the address of the descriptor cannot be reached, or not in a way that can be trusted")
}
