// A client made of golang.org/x/crypto/ssh; what it is asked:
// tests/system/interop.py.
package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"
)

func config(user, keyfile, fingerprint string) (*ssh.ClientConfig, error) {
	text, err := os.ReadFile(keyfile)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, err
	}
	c := &ssh.ClientConfig{
		User: user,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error {
			if fmt.Sprintf("%x", sha256.Sum256(k.Marshal())) != fingerprint {
				return errors.New("the host key is another")
			}
			return nil
		},
		Timeout: 30 * time.Second,
	}
	c.RekeyThreshold, _ = strconv.ParseUint(os.Getenv("REKEY"), 10, 64)
	return c, nil
}

func keepAlive(client *ssh.Client, seconds string) {
	n, _ := strconv.Atoi(seconds)
	for n > 0 {
		time.Sleep(time.Duration(n) * time.Second)
		_, _, err := client.SendRequest("keepalive@openssh.com", true, nil)
		if err != nil {
			return
		}
	}
}

func open(client *ssh.Client, args []string) error {
	conn, err := client.Dial("tcp", net.JoinHostPort(args[0], args[1]))
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		io.Copy(conn, os.Stdin)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	_, err = io.Copy(os.Stdout, conn)
	return err
}

func echo(conn net.Conn) {
	io.Copy(conn, conn)
	conn.(interface{ CloseWrite() error }).CloseWrite()
	conn.Close()
}

func listen(client *ssh.Client, args []string) error {
	listener, err := client.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		return err
	}
	fmt.Printf("listening on %d\n", listener.Addr().(*net.TCPAddr).Port)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	io.Copy(io.Discard, os.Stdin)
	return listener.Close()
}

func command(client *ssh.Client, args []string) error {
	session, err := client.NewSession()
	if err != nil {
		return err
	}
	out, err := session.Output(args[0])
	os.Stdout.Write(out)
	return err
}

func run(a []string) error {
	c, err := config(a[3], a[4], a[5])
	if err != nil {
		return err
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(a[1], a[2]), c)
	if err != nil {
		return err
	}
	defer client.Close()
	go keepAlive(client, os.Getenv("KEEPALIVE"))
	return map[string]func(*ssh.Client, []string) error{
		"open": open, "listen": listen, "exec": command,
	}[a[6]](client, a[7:])
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
