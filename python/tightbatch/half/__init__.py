"""Half precision: conversion, and what it would cost."""
