// Command ipuka is a self-hosted Pulumi Service: the gate, the console and the state
// service in one program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/ipuka/ipuka/internal/errs"
)

// version is set by release builds.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	p := &program{arguments: os.Args[1:], environment: os.Environ(), stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(ctx))
}

// program is one run of the command line.
type program struct {
	arguments      []string
	environment    []string
	stdout, stderr io.Writer
}

const usage = `Ipuka is a self-hosted Pulumi Service.

  ipuka serve           run the service
  ipuka bootstrap       prepare a fresh data folder without a browser
  ipuka config check    check the configuration and say what it means
  ipuka version         print the version

Each command explains its flags with --help.
`

// run executes the command and returns the exit status: 0, 1 for a failure, 2 for a
// command line that cannot be understood. A failure is told in one line on stderr
// (a line each for problems of the configuration).
func (p *program) run(ctx context.Context) int {
	command, rest := "", p.arguments
	if len(rest) > 0 {
		command, rest = rest[0], rest[1:]
	}
	if command == "config" && len(rest) > 0 {
		command, rest = "config "+rest[0], rest[1:]
	}
	commands := map[string]func(context.Context, []string) error{
		"serve": p.serve, "bootstrap": p.bootstrap, "config check": p.configCheck, "version": p.version,
	}
	switch do, ok := commands[command]; {
	case ok:
		return p.status(do(ctx, rest))
	case command == "help" || command == "--help" || command == "-h":
		fmt.Fprint(p.stdout, usage)
		return 0
	default:
		fmt.Fprint(p.stderr, usage)
		return 2
	}
}

var errUsage = errors.New("usage")

func (p *program) status(err error) int {
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	}
	for _, line := range strings.Split(err.Error(), "\n") {
		fmt.Fprintln(p.stderr, "ipuka: "+line)
	}
	return 1
}

// parse reads a command's flags: its own, which define adds, and every setting.
func (p *program) parse(command, about string, arguments []string, define func(*flag.FlagSet)) (*config, error) {
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	file := flags.String("config", "", "YAML file with settings (IPUKA_CONFIG)")
	given := map[string]string{}
	for _, s := range settings {
		flags.Func(s.flag(), s.usage+" ("+s.variable()+")", func(v string) error {
			given[s.key] = v
			return nil
		})
	}
	if define != nil {
		define(flags)
	}
	flags.Usage = func() {
		fmt.Fprintf(p.stdout, "ipuka %s: %s\n\n", command, about)
		flags.SetOutput(p.stdout)
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(p.stderr, "ipuka: %s takes no argument %q\n", command, flags.Arg(0))
		return nil, errUsage
	}
	return load(*file, p.environment, given)
}

func (p *program) version(context.Context, []string) error {
	fmt.Fprintln(p.stdout, "ipuka", programVersion())
	return nil
}

// programVersion is the release, or the revision that was built.
func programVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "development " + s.Value[:12]
		}
	}
	return "development"
}

func (p *program) configCheck(_ context.Context, arguments []string) error {
	c, err := p.parse("config check", "check the configuration and say what it means", arguments, nil)
	if err != nil {
		return err
	}
	database := "SQLite in " + filepath.Join(c.dataDir, databaseFile)
	if c.database != "" {
		database = "PostgreSQL"
	}
	a := c.addresses()
	fmt.Fprintf(p.stdout, "The configuration is valid.\n\n  Data      %s\n  Database  %s\n  API       %s (listening on %s)\n  Console   %s\n  Log in    %s\n",
		c.dataDir, database, a.api, c.listen, a.console, a.loginCommand())
	return nil
}

// oneLine returns err as one line for an operator.
func oneLine(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if public := errs.Public(err); public != "" && errs.KindOf(err) != errs.Unavailable {
		text = public
	}
	return errors.New(strings.Join(strings.Fields(text), " "))
}
