"""Convolutions of two networks trained on Fashion-MNIST, compressed without training them again."""
