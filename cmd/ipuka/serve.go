package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ipuka/ipuka/identity"
)

func (p *program) logger(c *config) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.logLevel}
	if c.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, options))
	}
	return slog.New(slog.NewTextHandler(p.stderr, options))
}

// serve runs the service until ctx ends, then drains.
func (p *program) serve(ctx context.Context, arguments []string) error {
	c, err := p.parse("serve", "run the service", arguments, nil)
	if err != nil {
		return err
	}
	log := p.logger(c)
	// The ports come first: when one is taken, nothing has been written yet.
	listener, err := listen(c)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	consoleListener := p.listenConsole(c)
	if consoleListener != nil {
		defer func() { _ = consoleListener.Close() }()
	}

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	a, err := openApp(ctx, c, log)
	if err != nil {
		stop()
		return oneLine(err)
	}
	defer func() {
		stop()
		if err := a.close(); err != nil {
			log.Error("closing", "error", err)
		}
	}()
	code, err := a.directory.SetupCode(ctx)
	if err != nil {
		return oneLine(err)
	}
	a.work(background)

	server := &http.Server{
		Handler: a.handler(c), MaxHeaderBytes: 32 << 10, DisableGeneralOptionsHandler: true,
		// A client that dawdles is dropped. A deployment of 64 MiB has five minutes to
		// arrive, and what is answered has ten to be taken.
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Minute, WriteTimeout: 10 * time.Minute, IdleTimeout: 90 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 2)
	for _, l := range []net.Listener{listener, consoleListener} {
		if l != nil {
			go func() { failed <- server.Serve(l) }()
		}
	}
	p.greet(c, code)
	select {
	case err := <-failed:
		return fmt.Errorf("listening: %w", err)
	case <-ctx.Done():
	}
	return a.drain(c, server, log)
}

// drain lets load balancers look elsewhere, then ends what is under way.
func (a *app) drain(c *config, server *http.Server, log *slog.Logger) error {
	a.draining.Store(true)
	log.Info("draining", "delay", c.drainDelay, "timeout", c.drainTimeout)
	time.Sleep(c.drainDelay)
	ctx, cancel := context.WithTimeout(context.Background(), c.drainTimeout)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		_ = server.Close()
		return fmt.Errorf("some requests did not end within drain_timeout %s", c.drainTimeout)
	}
	return nil
}

func listen(c *config) (net.Listener, error) {
	var certificates []tls.Certificate
	if c.tlsCertificate != "" {
		pair, err := tls.LoadX509KeyPair(c.tlsCertificate, c.tlsKey)
		if err != nil {
			return nil, fmt.Errorf("tls_certificate, tls_key: %w", err)
		}
		certificates = append(certificates, pair)
	}
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if certificates != nil {
		listener = tls.NewListener(listener, &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	return listener, nil
}

// listenConsole opens the console's second address. That it is taken is a warning
// only: everything works without it but the CLI's links and browser sign-in.
func (p *program) listenConsole(c *config) net.Listener {
	if c.consoleListen == "" {
		return nil
	}
	listener, err := net.Listen("tcp", c.consoleListen)
	if err != nil {
		fmt.Fprintf(p.stderr, "ipuka: warning: console_listen: %v; the console is at the API's address only\n", err)
		c.consoleListen = ""
		return nil
	}
	return listener
}

// greet tells the operator where to go.
func (p *program) greet(c *config, setupCode string) {
	a := c.addresses()
	var text strings.Builder
	fmt.Fprintf(&text, "\nIpuka %s is ready.\n\n  Console   %s\n", programVersion(), a.console)
	if setupCode != "" {
		fmt.Fprintf(&text, "  Set up    %s/setup?code=%s   (works once, for the first administrator)\n", a.console, url.QueryEscape(setupCode))
	}
	fmt.Fprintf(&text, "  Log in    %s\n\n", a.loginCommand())
	_, _ = p.stdout.Write([]byte(text.String()))
}

// bootstrap prepares a fresh data folder and prints the first access token.
func (p *program) bootstrap(ctx context.Context, arguments []string) error {
	var first identity.First
	var passwordFile string
	c, err := p.parse("bootstrap", "prepare a fresh data folder and print the administrator's first access token", arguments, func(f *flag.FlagSet) {
		f.StringVar(&first.Organization, "organization", "", "name of the first organization")
		f.StringVar(&first.Login, "login", "", "login of the first administrator")
		f.StringVar(&first.Name, "name", "", "their name (default: the login)")
		f.StringVar(&first.Email, "email", "", "their e-mail address")
		f.StringVar(&passwordFile, "password-file", "", "file that holds their password")
	})
	if err != nil {
		return err
	}
	for name, value := range map[string]string{"organization": first.Organization, "login": first.Login, "email": first.Email, "password-file": passwordFile} {
		if value == "" {
			return fmt.Errorf("bootstrap needs --%s", name)
		}
	}
	text, err := os.ReadFile(passwordFile)
	if err != nil {
		return fmt.Errorf("--password-file: %w", err)
	}
	a, err := openApp(ctx, c, p.logger(c))
	if err != nil {
		return oneLine(err)
	}
	token, err := a.firstToken(ctx, first, strings.TrimRight(string(text), "\r\n"))
	if err := errors.Join(err, a.close()); err != nil {
		return oneLine(err)
	}
	fmt.Fprintln(p.stdout, token)
	return nil
}

// firstToken sets the installation up and gives its administrator a token, both or
// neither.
func (a *app) firstToken(ctx context.Context, first identity.First, password string) (string, error) {
	var secret string
	err := a.db.Tx(ctx, func(ctx context.Context) error {
		user, _, err := a.email.Bootstrap(ctx, first, password)
		if err != nil {
			return err
		}
		_, secret, err = a.directory.CreateToken(ctx, user.Principal(identity.EmailConnector), identity.TokenRequest{Description: "made by ipuka bootstrap", Via: "bootstrap"})
		return err
	})
	return secret, err
}
